"""Stage 1's training in processes of its own: killed, split over two, on real photos."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from proposal.checkpoint_files import read_tensors
from proposal.training_metrics import read_metrics
from proposal.training_state import saved_folders

ROOT = Path(__file__).resolve().parents[2]
TINY = runpy.run_path(str(Path(__file__).with_name("tiny_training.py")))
TOOL = [sys.executable, str(ROOT / "tools" / "train_net.py"), "--stage", "proposal"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    TINY["write_data"](folder)
    return folder


def command(data: Path, output: Path, *arguments: str, settings: tuple[str, ...] = ()) -> list:
    common = ["--config", str(data / "config.yaml"), "--output", str(output), *arguments]
    return [*TOOL, *common, "--set", *TINY["SETTINGS"], *settings]


def run(*arguments) -> None:
    done = subprocess.run(
        command(*arguments[:2], *arguments[2]["flags"], settings=arguments[2]["settings"]),
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr


def test_a_killed_training_ends_with_the_same_weights(data, tmp_path):
    """kill -9 in the middle; then --resume, with other helpers' numbers: equal to the last bit."""
    settings = (
        "train.iterations=30",
        "train.checkpoint_iterations=4",
        "train.workers=1",
        "proposer.dropout=0.1",
        "train.threads=1",
    )
    run(data, tmp_path / "whole", {"flags": (), "settings": settings})
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        command(data, killed, settings=settings),
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 200
    while not saved_folders(killed) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert saved_folders(killed)
    interrupted = saved_folders(killed)[0].name != "iteration_0000030"
    more = (*settings[:2], "train.workers=0", *settings[3:])
    run(data, killed, {"flags": ("--resume",), "settings": more})
    expected, found = read_tensors(tmp_path / "whole"), read_tensors(killed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    told = [
        [(line["iteration"], line["total_loss"], line["lr"]) for line in read_metrics(path)]
        for path in (tmp_path / "whole" / "metrics.jsonl", killed / "metrics.jsonl")
    ]
    assert told[0] == told[1] and len(told[0]) == 30
    resumed = json.loads((killed / "run.json").read_text()).get("resumed", [])
    assert interrupted and len(resumed) == 1


def test_two_processes_learn_what_one_does_with_the_doubled_batch(data, tmp_path):
    settings = (
        "train.batch_size=4",
        "proposer.dropout=0",
        "data.augment.flip=false",
        "data.augment.colour=false",
        "data.augment.zoom=[1,1]",
        "train.iterations=6",
        "train.lr=1e-3",
        "train.threads=1",
    )
    run(data, tmp_path / "one", {"flags": (), "settings": settings})
    run(data, tmp_path / "two", {"flags": ("--num-gpus", "2"), "settings": settings})
    one, two = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    assert len(one) == len(two) == 6
    for alone, together in zip(one, two, strict=True):
        for name in (name for name in alone if "loss" in name):
            assert together[name] == pytest.approx(alone[name], abs=1e-4), name
    assert json.loads((tmp_path / "two" / "run.json").read_text())["environment"]["processes"] == 2


def test_an_error_in_a_process_is_one_sentence(data, tmp_path):
    done = subprocess.run(
        command(data, tmp_path / "o", "--num-gpus", "2", settings=("train.batch_size=3",)),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("train_net: error: train.batch_size must be a multiple of 2")
    assert "Traceback" not in done.stderr and not (tmp_path / "o").exists()
