"""The command: exit codes, sentences, and nothing written when an argument is wrong."""

import json
import os
import re
import runpy
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

call = runpy.run_path(str(Path(__file__).with_name("calling.py")))["caller"]("predict")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MASKCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    Image.new("RGB", (40, 30), "red").save("in/x.jpg")


def arguments(model: Path | str, **changes: str) -> list[str]:
    flags = {"input": "in", "classes": "cat,dog", "model": str(model), "output": "out"}
    flags |= {"device": "cpu"} | changes
    return [part for name, value in flags.items() for part in (f"--{name}", value) if value]


def test_pictures_labels_and_numbers(monkeypatch, capsys, tiny_checkpoint):
    assert call(monkeypatch, *arguments(tiny_checkpoint)) == 0
    written = sorted(path.name for path in Path("out").iterdir())
    assert written == ["summary.json", "x.json", "x.labels.png", "x.overlay.png"]
    assert "x.jpg 30x40: " in capsys.readouterr().out
    content = json.loads(Path("out/x.json").read_text())
    assert content["model"]["name"] == "tiny"
    assert content["image"] == {"path": "in/x.jpg", "height": 30, "width": 40}
    assert list(content["milliseconds"]) == ["propose", "crop", "clip", "assemble", "total"]


def test_a_bad_photo_is_reported_and_the_exit_code_is_1(monkeypatch, capsys, tiny_checkpoint):
    Path("in/zero.jpg").write_bytes(b"")
    assert call(monkeypatch, *arguments(tiny_checkpoint)) == 1
    assert "zero.jpg is empty" in capsys.readouterr().err
    assert Path("out/x.labels.png").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": "nowhere.jpg"}, "there is no file or folder 'nowhere.jpg'"),
        ({"input": "empty"}, "the folder empty holds no photos"),
        ({"classes": ","}, "blank"),
        ({"classes": " "}, "blank"),
        ({"classes": "", "classes-file": "names.txt"}, "names.txt"),
        ({"classes": "", "classes-file": "empty.txt"}, "empty.txt has no names"),
        ({"output": "in/x.jpg"}, "cannot write into in/x.jpg"),
        ({"save": "pictures"}, "cannot save 'pictures': choose from overlay"),
        ({"batch-size": "0"}, "at least 1"),
        ({"device": "tpu"}, "invalid choice"),
        ({"model": "no_such_model"}, "there is no model 'no_such_model'"),
        ({"background": "threshold:lots"}, "threshold:T needs a number"),
        ({"set": "segmentor.no_such_key=1"}, "known are .*mask_threshold"),
        ({"set": "segmentor.mask_threshold=2"}, "mask_threshold must be in"),
        ({"set": "nothing"}, "must look like a.b=value"),
        ({"proposer": "no_such_proposer"}, "no_such_proposer"),
        ({"clip": "no_such_clip"}, "no_such_clip"),
    ],
)
def test_wrong_arguments_exit_2_and_write_nothing(
    monkeypatch, capsys, tiny_checkpoint, changes, message
):
    Path("empty").mkdir()
    Path("empty.txt").write_text("")
    args = arguments(**({"model": tiny_checkpoint} | changes))
    assert call(monkeypatch, *args) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert "Traceback" not in error
    assert not Path("out").exists()


def test_a_proposer_of_the_hub_with_the_packaged_clip(monkeypatch, capsys, tiny_hub):
    settings = ["--set", "proposer.points_per_side=2", "proposer.min_quality=-9"]
    place = f"hub:{tiny_hub('sam2')}"
    args = [*arguments("nano", proposer=place), *settings, "proposer.min_stability=-1"]
    assert call(monkeypatch, *args) == 0
    assert "x.jpg 30x40: " in capsys.readouterr().out
    content = json.loads(Path("out/x.json").read_text())
    assert content["model"]["proposer"] == place
    assert Image.open("out/x.labels.png").size == (40, 30)


@pytest.mark.parametrize(
    ("kind", "setting", "message"),
    [
        ("sam2", "proposer.points=2", "unknown key points: known are duplicate_iou, mask_side"),
        ("mask2former", "proposer.duplicate_iou=-1", "duplicate_iou must be above 0, got -1"),
        ("nowhere", "", "needs a folder or a hub id (owner/name), there is no folder nowhere"),
        ("detr", "", "is a model of the kind 'detr', which was not tried as a proposer"),
    ],
)
def test_what_the_hub_cannot_propose_exits_2(
    monkeypatch, capsys, tiny_hub, tiny_checkpoint, kind, setting, message
):
    folder = kind if kind in ("nowhere", "detr") else tiny_hub(kind)
    if kind == "detr":
        Path("detr").mkdir()
        Path("detr/config.json").write_text('{"model_type": "detr"}')
    args = arguments(tiny_checkpoint, proposer=f"hub:{folder}", set=setting)
    assert call(monkeypatch, *args) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not Path("out").exists()


def damage_missing_key(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("proposer.query_embed.weight")
    save_file(tensors, folder / "model.safetensors")


def damage_wrong_shape(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["proposer.query_embed.weight"] = torch.zeros(3, 3)
    save_file(tensors, folder / "model.safetensors")


def damage_nan(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["proposer.query_embed.weight"][0, 0] = torch.nan
    save_file(tensors, folder / "model.safetensors")


def damage_truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100_000])


def damage_unknown_key(folder: Path) -> None:
    change_config(folder, lambda config: config["proposer"].update(surprise=1))


def damage_newer_format(folder: Path) -> None:
    change_config(folder, lambda config: config.update(format_version=1000))


def change_config(folder: Path, change) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_missing_key, "query_embed.weight"),
        (damage_wrong_shape, "query_embed.weight"),
        (damage_nan, "query_embed.weight"),
        (damage_truncated, "model.safetensors"),
        (damage_unknown_key, "surprise"),
        (damage_newer_format, "format_version"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    ],
)
def test_damaged_checkpoints_exit_2_and_write_nothing(
    monkeypatch, capsys, tmp_path, tiny_checkpoint, damage, message
):
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_checkpoint, folder)
    damage(folder)
    assert call(monkeypatch, *arguments(folder)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not Path("out").exists()


def test_demo_says_where_the_pictures_are(monkeypatch, capsys, tiny_checkpoint):
    args = ["--output", "out", "--model", str(tiny_checkpoint), "--device", "cpu"]
    assert call(monkeypatch, *args, tool="demo") == 0
    out = capsys.readouterr().out
    assert "astronaut.png 512x512: " in out
    assert "open out/*.overlay.png" in out
    assert Path("out/chelsea.overlay.png").exists()


def test_ctrl_c_leaves_whole_files_and_exits_130(monkeypatch, capsys, tmp_path, tiny_checkpoint):
    for index in range(300):
        shutil.copy("in/x.jpg", f"in/{index}.jpg")

    def press_ctrl_c() -> None:
        while len(list(tmp_path.glob("out/*.json"))) < 2:  # the first photo is done for sure
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press_ctrl_c, daemon=True).start()
    args = [*arguments(tiny_checkpoint), "--batch-size", "1"]
    assert call(monkeypatch, *args) == 130
    assert "stopped" in capsys.readouterr().err
    written = list(Path("out").iterdir())
    assert not [path for path in written if path.name.endswith(".tmp")]
    for path in written:
        json.loads(path.read_text()) if path.suffix == ".json" else Image.open(path).load()
    counts = json.loads(Path("out/summary.json").read_text())["counts"]
    assert 0 < counts["done"] < counts["photos"]
