import json
import runpy
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "measure_nano.py"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MASKCLIP_CACHE", str(tmp_path / "cache"))


def call(monkeypatch, *args) -> int:
    monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, args)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOL), run_name="__main__")
    return end.value.code


def test_one_photo_from_model_to_table(tiny_checkpoint, shared, tmp_path, monkeypatch, capsys):
    output = tmp_path / "deep" / "quality.json"
    args = ["--model", tiny_checkpoint, "--shared", shared, "--limit", 1, "--output", output]
    only = ["--only", "proposals", "regions", "pixels", "voc", "msrc", "queries"]
    assert call(monkeypatch, *args, *only) == 0
    numbers = json.loads(output.read_text())
    assert numbers["photos"] == 1
    assert [who.split()[0] for who in numbers["pixels"]] == ["model", "always"]
    assert numbers["pixels"]["model"]["pixels"] == list(numbers["pixels"].values())[1]["pixels"] > 0
    assert numbers["regions"]["model"]["regions"] > 0
    assert set(numbers["voc"]) == {"model", "DeepLab teacher"}
    assert 0 <= numbers["proposals"]["model"]["AR@100"] <= 100
    assert numbers["msrc"]["model"]["photos"] == 1
    assert numbers["queries"]["model"]["queries"] > 0
    printed = capsys.readouterr().out
    assert "| regions | model | top1" in printed
    assert "Compared with" not in printed


def test_a_measurement_beside_an_earlier_one(
    tiny_checkpoint, shared, tmp_path, monkeypatch, capsys
):
    old, output = tmp_path / "old.json", tmp_path / "quality.json"
    old.write_text(json.dumps({"regions": {"model": {"top1": 101.0, "mean_per_class": -1.0}}}))
    args = ["--model", tiny_checkpoint, "--shared", shared, "--limit", 1, "--output", output]
    assert call(monkeypatch, *args, "--only", "regions", "--compare", old) == 0
    printed = capsys.readouterr().out
    assert "| regions mean_per_class | -1.00 |" in printed
    assert "1 of 2 numbers are better." in printed
    assert call(monkeypatch, *args, "--compare", tmp_path / "none.json") == 2
    assert "there is no file of measurements" in capsys.readouterr().err


def test_what_cannot_be_measured_is_said_in_one_sentence(tmp_path, monkeypatch, capsys):
    output = tmp_path / "quality.json"
    assert call(monkeypatch, "--shared", tmp_path, "--output", output) == 2
    assert "measure_nano: error: expected a folder that holds data/" in capsys.readouterr().err
    assert not output.exists()
