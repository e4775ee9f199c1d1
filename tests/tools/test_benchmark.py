"""tools/benchmark.py."""

import runpy
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmark.py"


@pytest.mark.parametrize("arguments", [["--names", "0"], ["--repeats", "0"]])
def test_wrong_numbers_are_refused(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), *arguments])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(TOOL), run_name="__main__")
    assert stop.value.code == 2
    assert "error: --names and --repeats must be at least 1" in capsys.readouterr().err


def test_help_names_the_full_size_models(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(TOOL), "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(TOOL), run_name="__main__")
    assert stop.value.code == 0
    assert "full-size-compat" in capsys.readouterr().out
