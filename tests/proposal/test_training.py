"""Stage 1's training: runs, stops, resumes, leaves a checkpoint."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path

import pytest
import torch

from proposal.checkpoint_files import read_config, read_tensors
from proposal.configuration import load_config
from proposal.evaluation import evaluate
from proposal.training import train
from proposal.training_checkpoint import read_proposer
from proposal.training_config import ProposalTraining
from proposal.training_metrics import read_metrics
from proposal.training_record import read_record
from proposal.training_state import newest_state, saved_folders

TINY = runpy.run_path(str(Path(__file__).with_name("tiny_training.py")))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    TINY["write_data"](folder)
    return folder


def tiny(data: Path, *settings: str) -> ProposalTraining:
    return load_config(ProposalTraining, data / "config.yaml", [*TINY["SETTINGS"], *settings])


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "whole"
    train(tiny(data), output)
    return output


def test_leaves_a_checkpoint_and_metrics(run, data):
    config = read_config(run)
    assert config["proposer"]["type"] == "maskformer"
    assert config["proposer"]["num_queries"] == 6
    assert config["provenance"]["iterations"] == 4
    assert all(name.startswith("proposer.") for name in read_tensors(run))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [0, 1, 2, 3]
    assert all({"total_loss", "lr", "gradient_norm"} <= line.keys() for line in lines)
    recall = evaluate(tiny(data), run)
    assert 0 <= recall["AR@100"] <= 100
    assert not list(run.rglob("*.tmp"))
    assert {path.name for path in run.iterdir()} >= {"run.json", "curves.png", "checkpoints"}
    assert [path.name for path in saved_folders(run)] == ["iteration_0000004"]


def test_a_stopped_training_goes_on_as_if_nothing_had_been(run, data, tmp_path, monkeypatch):
    from proposal import training_hooks

    config = tiny(data)
    after_step = training_hooks.StopOnSignal.after_step

    def stop_after_two(self):
        self.stopped = self.trainer.iter == 1
        after_step(self)

    monkeypatch.setattr(training_hooks.StopOnSignal, "after_step", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, resume=True)  # nothing to resume so far: starts anew
    assert read_config(tmp_path)["provenance"]["iterations"] == 2
    monkeypatch.undo()
    train(config, tmp_path, resume=True)
    whole, halves = read_tensors(run), read_tensors(tmp_path)
    assert all(torch.equal(tensor, halves[name]) for name, tensor in whole.items())
    assert losses(tmp_path) == losses(run)
    assert len(read_record(tmp_path)["resumed"]) == 1


def losses(folder: Path) -> list[tuple[int, float]]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [(line["iteration"], line["total_loss"], line["lr"]) for line in lines]


def test_the_mean_of_the_weights_is_kept(run):
    state, _ = newest_state(run)
    _, kept = read_proposer(run)
    name = "query_embed.weight"
    assert torch.equal(kept[name], state["average"][name])
    assert not torch.equal(kept[name], state["model"][name])


def test_starts_from_a_checkpoint(run, data, tmp_path):
    train(tiny(data, "train.iterations=1", "train.lr=0"), tmp_path, init=run)
    before, after = read_tensors(run), read_tensors(tmp_path)
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_frozen_parameters_stay(run, data, tmp_path):
    frozen = tiny(data, "train.iterations=2", "train.frozen=[query_embed]", "train.ema_decay=0")
    train(frozen, tmp_path, init=run)
    before, after = read_tensors(run), read_tensors(tmp_path)
    assert torch.equal(before["proposer.query_embed.weight"], after["proposer.query_embed.weight"])
    name = "proposer.mask_embed.layers.0.weight"
    assert not torch.equal(before[name], after[name])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["proposer.classifier=text"], "has masks without"),
        (["train.frozen=[nothing]"], "with which no parameter begins"),
        (["backbone.weights=absent.safetensors"], "there are no weights at absent"),
        (["data.sources=[]"], "at least one set of photos"),
        (
            ["train.evaluate_iterations=1", "train.best_metric=x"],
            "best_metric must be one of AR@10",
        ),
        (["train.evaluate_iterations=1", "data.validation=null"], "needs data.validation"),
    ],
)
def test_wrong_settings_are_refused(data, tmp_path, settings, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(tiny(data, *settings), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_resumed_is_refused(data, run, tmp_path):
    with pytest.raises(ValueError, match="go on with --resume, or choose another --output"):
        train(tiny(data), run)
    shutil.copytree(run, tmp_path / "run")
    with pytest.raises(ValueError, match="num_queries was 6, is 5; set it back"):
        train(tiny(data, "proposer.num_queries=5"), tmp_path / "run", resume=True)
    for place in saved_folders(tmp_path / "run"):
        state = place / "training_state.pth"
        state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is damaged: .*start anew in another --output"):
        train(tiny(data), tmp_path / "run", resume=True)


def test_other_data_cannot_be_resumed_on(data, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(data, tmp_path / "data")
    train(tiny(data, f"data.folders.here={tmp_path / 'data'}"), tmp_path / "run", resume=True)
    (tmp_path / "data" / "images" / "0.png").write_bytes(b"")
    with pytest.raises(ValueError, match="needs the data .* was 3 files of .* is 3 files of"):
        train(tiny(data, f"data.folders.here={tmp_path / 'data'}"), tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    "settings",
    [
        "train.precision=half",
        "train.iterations=0",
        "train.ema_decay=1",
        "data.sides=[]",
        "data.sides=[8]",
    ],
)
def test_impossible_numbers_are_refused(data, settings):
    with pytest.raises(ValueError, match="must be"):
        tiny(data, settings)


def test_mixed_precision_trains(data, tmp_path):
    train(tiny(data, "train.precision=bfloat16", "train.iterations=1"), tmp_path)
    assert all(t.dtype == torch.float32 for t in read_proposer(tmp_path)[1].values())
