"""tools/train_net.py on a tiny training, and on wrong arguments."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = runpy.run_path(str(ROOT / "tests" / "proposal" / "tiny_training.py"))
SETTINGS = TINY["SETTINGS"]


def train_net(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "train_net.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    TINY["write_data"](folder)
    return folder


def test_trains_then_measures(data, tmp_path):
    common = ["--stage", "proposal", "--config", data / "config.yaml", "--output", tmp_path / "o"]
    trained = train_net(*common, "--set", *SETTINGS, "train.iterations=2")
    assert trained.returncode == 0, trained.stderr
    assert "eta: " in trained.stderr and "lr: " in trained.stderr
    assert (tmp_path / "o" / "model.safetensors").is_file()
    measured = train_net(*common, "--eval-only", "--set", *SETTINGS)
    assert measured.returncode == 0, measured.stderr
    assert "AR@100: " in measured.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "train.steps=3"], "unknown key train.steps: known are"),
        (["--set", "train.iterations=many"], "train.iterations"),
        (["--eval-only"], "is not a checkpoint folder"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(data, tmp_path, arguments, message):
    common = ["--stage", "proposal", "--config", data / "config.yaml", "--output", tmp_path / "o"]
    refused = train_net(*common, *arguments)
    assert refused.returncode == 2
    assert refused.stderr.startswith("train_net: error: ") and message in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "o").exists()
