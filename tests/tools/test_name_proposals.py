"""tools/name_proposals.py as people call it."""

import runpy
from pathlib import Path

import numpy as np
from PIL import Image

from labeling.named_folder import NamedFolder
from maskclip.pairs import read_pairs

call = runpy.run_path(str(Path(__file__).with_name("calling.py")))["caller"]("name_proposals")


def test_a_model_names_its_proposals(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    Image.new("RGB", (96, 64), "red").save(tmp_path / "a.jpg")
    folder = NamedFolder(tmp_path / "named")
    folder.add(tmp_path / "a.jpg", [("wall", np.ones((64, 96), dtype=bool))])
    folder.close({})
    args = ("--model", tiny_checkpoint, "--named", tmp_path / "named", "--output", tmp_path / "out")
    assert call(monkeypatch, *args, "--min-objectness", 0) == 0
    assert "pairs" in capsys.readouterr().out
    nouns = read_pairs(tmp_path / "out")["noun"].to_pylist()
    assert nouns
    assert set(nouns) == {"wall"}
    assert call(monkeypatch, *args, "--min-objectness", 0) == 0
    assert "is complete" in capsys.readouterr().out
    assert call(monkeypatch, *args) == 2
    assert (
        "other settings or inputs: min_objectness was 0.0, is 0.05; give another --output"
        in capsys.readouterr().err
    )


def test_errors_are_one_sentence(tmp_path, monkeypatch, capsys):
    args = ("--named", tmp_path, "--output", tmp_path / "out")
    assert call(monkeypatch, *args, "--min-purity", 0.2) == 2
    assert "min_purity must be above 0.5" in capsys.readouterr().err
    assert call(monkeypatch, *args, "--threads", 0) == 2
    assert "--threads must be at least 1" in capsys.readouterr().err
    assert call(monkeypatch, *args, "--model", "none-such") == 2
    assert "none-such" in capsys.readouterr().err
    assert call(monkeypatch, *args) == 2
    error = capsys.readouterr().err
    assert "expected a folder with images/" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
