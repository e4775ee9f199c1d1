"""Several processes learn what one learns; a killed training ends as an undisturbed one."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml

from maskclip.adaptation import train
from maskclip.checkpoint import load_clip
from proposal.configuration import config_to_dict
from proposal.training_processes import Processes, start_processes

TOOL = Path(__file__).resolve().parents[3] / "tools" / "train_net.py"
ONE_LOSS = pytest.param("infonce", {"symmetric": False}, marks=pytest.mark.slow)


def losses(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["total_loss"] for line in lines]


def weights(folder):
    return load_clip(str(folder)).state_dict()


@pytest.mark.parametrize(("loss", "settings"), [("multi_positive", {"accumulate": 2}), ONE_LOSS])
def test_two_processes_learn_what_one_does(
    loss, settings, colour_pairs, start, config_for, tmp_path
):
    settings = {"steps": 4, "mode": "joint", "loss": loss, "log_period": 1, **settings}
    config = config_for(colour_pairs, learning_rate=1e-3, **settings)
    config = replace(config, clip=replace(config.clip, text_context=2))
    one = replace(config, train=replace(config.train, accumulate=1))
    train(one, tmp_path / "one", init=start)
    two = tmp_path / "two"
    start_processes(partial(train, init=start), (config, two), Processes(per_machine=2))
    assert losses(two) == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
    expected = weights(tmp_path / "one")
    for name, value in weights(two).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_killed_training_ends_as_an_undisturbed_one(colour_pairs, start, config_for, tmp_path):
    steps = {"steps": 60, "checkpoint_steps": 4, "log_period": 1, "threads": 1}
    settings = {"mode": "ft_mpt", "average": 0.9, "mask_dropout": 0.2, "prompt_steps": 6}
    config = config_for(colour_pairs, loss="multi_positive", **steps, **settings)
    train(config, tmp_path / "whole", init=start)
    killed = tmp_path / "killed"
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config_to_dict(config)))
    arguments = ["--stage", "clip", "--config", path, "--output", killed, "--init", start]
    with subprocess.Popen([sys.executable, TOOL, *arguments], env=os.environ) as process:
        wait_for(lambda: sorted((killed / "ft" / "checkpoints").glob("iteration_*")), process)
        process.send_signal(signal.SIGKILL)
    assert not (killed / "model.safetensors").exists()  # not yet in the second part
    with_workers = replace(config, train=replace(config.train, workers=2))
    train(with_workers, killed, init=start, resume=True)
    for part in ("ft", "."):
        expected = weights(tmp_path / "whole" / part)
        for name, value in weights(killed / part).items():
            assert torch.equal(value, expected[name]), name
        assert losses(killed / part) == losses(tmp_path / "whole" / part)


def wait_for(something, process):
    for _ in range(600):
        if something():
            return
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.1)
    raise TimeoutError


def test_a_stopped_training_goes_on_with_the_weights_it_had(
    colour_pairs, start, config_for, tmp_path, monkeypatch
):
    config = config_for(colour_pairs, steps=6, average=0.9, checkpoint_minutes=0.0)
    train(config, tmp_path / "whole", init=start)
    monkeypatch.setattr("maskclip.adaptation.hooks.NoteScale.after_step", stop_after(3))
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "parts", init=start)
    monkeypatch.undo()
    train(config, tmp_path / "parts", init=start, resume=True)
    expected = weights(tmp_path / "whole")
    for name, value in weights(tmp_path / "parts").items():
        assert torch.equal(value, expected[name]), name


def stop_after(step):
    def after_step(self):
        if self.trainer.iter == step:
            signal.raise_signal(signal.SIGINT)  # as Ctrl-C: the step is finished first

    return after_step
