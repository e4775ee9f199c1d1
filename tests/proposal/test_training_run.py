"""What both stages' trainings share, on a model of two weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from proposal.checkpoint_files import read_tensors, write_checkpoint
from proposal.training_hooks import StopOnSignal
from proposal.training_loop import DivergedError
from proposal.training_metrics import read_metrics
from proposal.training_record import (
    check_same_run,
    fingerprint,
    make_record,
    read_record,
)
from proposal.training_run import Learner, LoopConfig, Purpose, run_training
from proposal.training_state import saved_folders

LOOP = LoopConfig(
    iterations=6, batch_size=1, log_iterations=1, checkpoint_minutes=60, checkpoint_iterations=1
)


class Step(nn.Module):
    """Moves a point towards what a batch says, with some noise."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Linear(1, 1)
        nn.init.zeros_(self.point.weight)
        nn.init.zeros_(self.point.bias)

    def forward(self, batch: float) -> dict[str, Tensor]:
        noise = torch.rand(1) * 0.1
        return {"loss_far": (self.point(torch.ones(1)) - batch - noise).square().sum()}


def batches(start: int) -> Iterator[float]:
    """Batch i is i."""
    number = start
    while True:
        yield float(number)
        number += 1


def learner(lr: float = 0.1) -> Learner:
    step = Step()
    optimizer = torch.optim.AdamW(step.parameters(), lr=lr)
    return Learner(step, step.point, optimizer, LambdaLR(optimizer, lambda i: 1 / (1 + i)))


def save(folder: Path, model: nn.Module, iterations: int) -> None:
    write_checkpoint(folder, {"iterations": iterations}, model.state_dict())


def purpose(folder: Path, **more) -> Purpose:
    record = make_record({"lr": 0.1, "train": {"workers": 1}}, {})
    values = {"batches": batches, "save_model": save, "may_change": frozenset({"train.workers"})}
    return Purpose(folder, record, **(values | more))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run_training(learner(), replace(LOOP, average=0.5), purpose(folder))
    return folder


def test_the_last_saves_are_kept_and_the_newest_is_the_run(whole):
    assert [path.name[-1] for path in saved_folders(whole)] == ["6", "5"]
    newest, own = read_tensors(saved_folders(whole)[0]), read_tensors(whole)
    assert all(torch.equal(newest[name], own[name]) for name in newest)
    assert not list(whole.rglob("*.tmp"))


def test_a_run_says_what_it_was(whole):
    record = read_record(whole)
    assert record["config"] == {"lr": 0.1, "train": {"workers": 1}}
    assert record["code"]["maskclip"] and record["environment"]["packages"]["torch"]
    assert {"python", "cuda", "gpus", "machine", "processes"} <= record["environment"].keys()
    assert record["environment"]["packages"]["detectron2"]
    with Image.open(whole / "curves.png") as picture:
        assert picture.width > picture.height and np.array(picture).std() > 10


@pytest.mark.parametrize("killed_after", [1, 4])
def test_a_killed_run_goes_on_as_if_nothing_had_been(whole, tmp_path, killed_after):
    """The newest save is torn, a line was cut off, others are ahead of the save: as kill -9 may."""

    class Killed(BaseException):
        pass

    def save_or_die(folder: Path, model: nn.Module, iterations: int) -> None:
        save(folder, model, iterations)
        if iterations == killed_after + 1:
            raise Killed

    with pytest.raises(Killed):
        run_training(
            learner(), replace(LOOP, average=0.5), purpose(tmp_path, save_model=save_or_die)
        )
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 9, "total_')
    assert [path.name[-1] for path in saved_folders(tmp_path)][0] == str(killed_after)
    changed = make_record({"lr": 0.1, "train": {"workers": 7}}, {})
    run_training(
        learner(),
        replace(LOOP, average=0.5),
        replace(purpose(tmp_path), record=changed),
        resume=True,
    )
    expected, found = read_tensors(whole), read_tensors(tmp_path)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    scalars = [
        [{k: v for k, v in line.items() if k in ("iteration", "lr", "total_loss")} for line in run]
        for run in (read_metrics(whole / "metrics.jsonl"), read_metrics(tmp_path / "metrics.jsonl"))
    ]
    assert scalars[0] == scalars[1] and [line["iteration"] for line in scalars[0]] == list(range(6))


def test_a_damaged_save_is_passed_over(tmp_path, caplog):
    run_training(learner(), LOOP, purpose(tmp_path))
    kept = read_tensors(tmp_path)
    (saved_folders(tmp_path)[0] / "training_state.pth").write_bytes(b"torn")
    run_training(learner(), LOOP, purpose(tmp_path), resume=True)
    assert "trying the save before" in caplog.text
    assert torch.equal(read_tensors(tmp_path)["weight"], kept["weight"])


def test_the_best_model_is_kept_too(tmp_path):
    values = iter([10.0, 30.0, 20.0])

    def validate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, nn.Linear)
        return {"AR@100": next(values), "AR@100_small": float("nan")}

    loop = replace(LOOP, evaluate_iterations=2, best_metric="AR@100")
    run_training(learner(), loop, purpose(tmp_path, validate=validate))
    assert json.loads((tmp_path / "best" / "config.json").read_text())["iterations"] == 4
    lines = read_metrics(tmp_path / "metrics.jsonl")
    measured = [line.get("validation/AR@100") for line in lines]
    assert measured == [None, 10, None, 30, None, 20]
    assert lines[1]["validation/AR@100_small"] is None
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


def test_a_metric_that_is_not_measured_is_refused(tmp_path):
    loop = replace(LOOP, evaluate_iterations=2, best_metric="mIoU")
    with pytest.raises(ValueError, match="told by mIoU, measured was top1"):
        run_training(learner(), loop, purpose(tmp_path, validate=lambda _: {"top1": 1.0}))


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    def poisoned(start: int) -> Iterator[float]:
        return (value if value < 3 else float("nan") for value in batches(start))

    with pytest.raises(DivergedError, match="iteration 3: loss_far is nan; the checkpoint after 3"):
        run_training(learner(), LOOP, purpose(tmp_path, batches=poisoned))
    assert torch.isfinite(read_tensors(tmp_path)["weight"]).all()
    assert saved_folders(tmp_path)[0].name.endswith("3")


def test_a_gradient_that_is_no_number_stops_the_run_before_the_weights_change(tmp_path):
    class Steep(Step):
        def forward(self, _: float) -> dict[str, Tensor]:
            bent = self.point.bias.abs().sqrt()  # at 0 its slope has no end
            return {"loss": bent.sum() + 0 * self.point.weight.sum()}

    step = Steep()
    optimizer = torch.optim.SGD(step.parameters(), lr=1.0)
    steep = Learner(step, step.point, optimizer, LambdaLR(optimizer, lambda _: 1.0))
    with pytest.raises(DivergedError, match="its norm is (inf|nan).*nothing was saved before"):
        run_training(steep, LOOP, purpose(tmp_path))
    assert step.point.bias.item() == 0


def test_a_folder_with_another_run_is_left_alone(whole, tmp_path):
    before = (whole / "metrics.jsonl").read_bytes()
    with pytest.raises(ValueError, match="go on with --resume, or choose another --output"):
        run_training(learner(), LOOP, purpose(whole))
    other = make_record({"lr": 0.2, "train": {"workers": 1}}, {})
    with pytest.raises(ValueError, match="lr was 0.1, is 0.2; set it back"):
        run_training(learner(), LOOP, replace(purpose(whole), record=other), resume=True)
    assert (whole / "metrics.jsonl").read_bytes() == before
    run_training(learner(), LOOP, purpose(tmp_path), resume=True)  # nothing there: starts anew
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 6


def test_a_setting_that_a_newer_version_added_changes_nothing(whole):
    newer = make_record({"lr": 0.1, "train": {"workers": 1, "fresh": 0}}, {})
    check_same_run(whole, newer, frozenset())
    with pytest.raises(ValueError, match="train.workers was 1, is None"):
        check_same_run(whole, make_record({"lr": 0.1, "train": {}}, {}), frozenset())
    with pytest.raises(ValueError, match="x was not there, is 0 files of 0 bytes"):
        check_same_run(whole, make_record(newer["config"], {"x": fingerprint([])}), frozenset())


def test_accumulated_steps_learn_from_the_mean(tmp_path):
    """Two batches of a step: 0 and 1; by hand, the gradient at 0 is -2 * 0.5."""

    class Plain(Step):
        def forward(self, batch: float) -> dict[str, Tensor]:
            return {"loss_far": (self.point(torch.ones(1)) - batch).square().sum()}

    step = Plain()
    optimizer = torch.optim.SGD(step.parameters(), lr=1.0)
    plain = Learner(step, step.point, optimizer, LambdaLR(optimizer, lambda _: 1.0))
    loop = replace(LOOP, iterations=1, batch_size=2, accumulate=2)
    run_training(plain, loop, purpose(tmp_path))
    assert step.point.bias.item() == pytest.approx(1.0)
    line = read_metrics(tmp_path / "metrics.jsonl")[0]
    assert line["loss_far"] == pytest.approx(0.5)
    assert line["gradient_norm"] == pytest.approx(2**0.5)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precision_keeps_weights_in_full(tmp_path, precision):
    loop = replace(LOOP, precision=precision, iterations=2)
    model = run_training(learner(), loop, purpose(tmp_path))
    assert model.weight.dtype == torch.float32 and model.weight.item() != 0


def test_a_batch_that_cannot_be_shared_out_is_refused(tmp_path):
    loop = replace(LOOP, batch_size=3, accumulate=2)
    with pytest.raises(ValueError, match=r"multiple of 2 \(1 processes x train.accumulate 2\)"):
        run_training(learner(), loop, purpose(tmp_path))


def test_stopping_saves_what_was_learned(tmp_path, monkeypatch):
    after_step = StopOnSignal.after_step

    def stop_after_three(self):
        self.stopped = self.trainer.iter == 2
        after_step(self)

    monkeypatch.setattr(StopOnSignal, "after_step", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        run_training(learner(), replace(LOOP, checkpoint_iterations=0), purpose(tmp_path))
    assert [path.name[-1] for path in saved_folders(tmp_path)] == ["3"]


def test_fingerprints_tell_content_from_names(tmp_path):
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("one")
    second.write_text("two")
    before = fingerprint([first], [second])
    assert (before["files"], before["bytes"]) == (2, 6)
    second.write_text("TWO")  # of the same size: not read
    assert fingerprint([first], [second]) == before
    first.write_text("eno")
    assert fingerprint([first], [second])["sha256"] != before["sha256"]
    assert fingerprint([], [])["files"] == 0
