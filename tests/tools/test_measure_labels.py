import json
import runpy
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def call(monkeypatch, tool, *args) -> int:
    monkeypatch.setattr(sys, "argv", [tool, *map(str, args)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOLS / f"{tool}.py"), run_name="__main__")
    return end.value.code


def test_one_photo_of_each_split(tiny_checkpoint, shared, tmp_path, monkeypatch, capsys):
    output = tmp_path / "deep" / "labels.json"
    args = ["--model", tiny_checkpoint, "--shared", shared, "--limit", 1, "--output", output]
    assert call(monkeypatch, "measure_labels", *args, "--proposers", "own", "truth") == 0
    numbers = json.loads(output.read_text())["proposals"]
    assert list(numbers) == ["own", "truth"]
    assert list(numbers["truth"]) == ["ours", "paper"]
    assert numbers["truth"]["paper"]["other"]["reachable"] == 100
    assert "| truth | paper | 1 other |" in capsys.readouterr().out


def test_a_missing_folder_is_said_in_one_sentence(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    args = ["--model", tiny_checkpoint, "--shared", tmp_path, "--output", tmp_path / "x.json"]
    assert call(monkeypatch, "measure_labels", *args) == 2
    assert capsys.readouterr().err.startswith("measure_labels: error: expected a folder that holds")
    assert not (tmp_path / "x.json").exists()


def test_nouns_of_a_file(tmp_path, monkeypatch, capsys):
    (tmp_path / "c.tsv").write_text("a.jpg\tTwo hot dogs\na.jpg\ta dog\n")
    assert call(monkeypatch, "measure_nouns", "--captions", tmp_path / "c.tsv") == 0
    printed = capsys.readouterr().out
    assert "2 captions, 0 without nouns" in printed
    assert "the commonest: dog 1, hot dog 1" in printed
    assert call(monkeypatch, "measure_nouns", "--captions", tmp_path / "none.tsv") == 2
    assert "measure_nouns: error: there is no captions file" in capsys.readouterr().err
