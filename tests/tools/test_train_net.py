"""tools/train_net.py on a tiny training, and on wrong arguments."""

from __future__ import annotations

import logging
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = runpy.run_path(str(ROOT / "tests" / "proposal" / "tiny_training.py"))
SETTINGS = TINY["SETTINGS"]


@pytest.fixture
def train_net(monkeypatch):
    """The tool's exit code for arguments, in this process: detectron2 takes long to import."""

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["train_net.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "tools" / "train_net.py"), run_name="__main__")
        return ended.value.code

    return call


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    TINY["write_data"](folder)
    return folder


def test_trains_then_measures(train_net, data, tmp_path, capsys, caplog):
    common = ["--stage", "proposal", "--config", data / "config.yaml", "--output", tmp_path / "o"]
    with caplog.at_level(logging.INFO):
        assert train_net(*common, "--set", *SETTINGS, "train.iterations=2") == 0
    assert "eta: " in caplog.text and "total_loss: " in caplog.text and "lr: " in caplog.text
    assert (tmp_path / "o" / "model.safetensors").is_file()
    assert train_net(*common, "--eval-only", "--set", *SETTINGS) == 0
    assert "AR@100: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "train.steps=3"], "unknown key train.steps: known are"),
        (["--set", "train.iterations=many"], "train.iterations"),
        (["--eval-only"], "is not a checkpoint folder"),
        (["--config", "absent.yaml"], "there is no configuration file absent.yaml"),
        (["--init", "absent"], "absent is not a checkpoint folder"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    train_net, data, tmp_path, capsys, arguments, message
):
    common = ["--stage", "proposal", "--config", data / "config.yaml", "--output", tmp_path / "o"]
    assert train_net(*common, *arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("train_net: error: ") and message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "o").exists()
