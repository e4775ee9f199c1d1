"""The commands that people type, on small random checkpoints."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskclip.segmentor import Segmentor

ROOT = Path(__file__).resolve().parents[2]
RANDOM = runpy.run_path(str(ROOT / "tests" / "published_checkpoint.py"))
FROM_CLIP = ("--from", "clip", "--checkpoint")
TOLD = {"nheads": 4, "short_side": 64, "mask_threshold": 0.5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A checkpoint x.pth with its x.json, a photo."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    network, clip = RANDOM["random_network"](RANDOM["SWIN"]), RANDOM["random_clip"](1)
    torch.save({"model": RANDOM["published_state"](network, clip)}, folder / "x.pth")
    towers = RANDOM["published_towers"](clip, "module.")
    torch.save({"state_dict": towers}, folder / "clip.pth")
    (folder / "x.json").write_text(json.dumps(TOLD))
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    return folder


def run(monkeypatch, tool: str, *arguments: object) -> int:
    """A command in this process, which saves seconds."""
    path = ROOT / "tools" / f"{tool}.py"
    monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    return ended.value.code


def convert(monkeypatch, *arguments: object) -> int:
    return run(monkeypatch, "convert_checkpoint", *arguments)


def test_published_weights_segment_photos_in_two_commands(
    folder, tmp_path, monkeypatch, capsys, caplog
):
    model, output = tmp_path / "model", tmp_path / "output"
    published = ["--from", "ovseg", "--checkpoint", folder / "x.pth", "--config", folder / "x.json"]
    settings = ["--set", "segmentor.fusion_weight=0.6"]
    assert convert(monkeypatch, *published, "--output", model, *settings) == 0
    assert f"try tools/predict.py --model {model}" in capsys.readouterr().out
    assert "CC-BY-NC-4.0: no commercial use" in caplog.text
    assert json.loads((model / "config.json").read_text())["segmentor"]["fusion_weight"] == 0.6
    photo = ["--model", model, "--input", folder / "photo.png", "--classes", "cat,dog|puppy"]
    assert run(monkeypatch, "predict", *photo, "--output", output) == 0
    assert Image.open(output / "photo.labels.png").size == (60, 40)
    assert json.loads((output / "photo.json").read_text())["names"] == ["cat", "dog|puppy"]


def test_a_clip_alone_is_converted_and_joined(folder, tmp_path, monkeypatch, capsys):
    clip = tmp_path / "clip"
    assert convert(monkeypatch, *FROM_CLIP, folder / "clip.pth", "--output", clip) == 0
    assert f"--clip {clip}" in capsys.readouterr().out
    joined = ["--proposal", "superpixels", "--clip", clip]
    assert convert(monkeypatch, "--from", "parts", *joined, "--output", tmp_path / "both") == 0
    made = json.loads((tmp_path / "both" / "config.json").read_text())
    assert made["provenance"]["license"] == "CC-BY-NC-4.0"
    assert made["clip"]["prompt_depth"] == 1


def test_a_proposer_of_the_hub_is_joined_with_a_clip(folder, tmp_path, monkeypatch):
    tiny = runpy.run_path(str(ROOT / "tests" / "proposal" / "tiny_hub.py"))
    hub = tiny["save_tiny"]("mask2former", tmp_path / "mask2former")
    clip, model = tmp_path / "clip", tmp_path / "model"
    assert convert(monkeypatch, *FROM_CLIP, folder / "clip.pth", "--output", clip) == 0
    joined = ["--from", "hub", "--checkpoint", hub, "--clip", clip, "--output", model]
    assert convert(monkeypatch, *joined) == 0
    assert json.loads((model / "config.json").read_text())["proposer"]["type"] == f"hub:{hub}"
    result = Segmentor.from_pretrained(model).segment(folder / "photo.png", ["cat", "dog"])
    assert result.labels.shape == (40, 60)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "ovseg"], "--from ovseg needs --checkpoint"),
        (["--from", "parts", "--clip", "x"], "--from parts needs --proposal"),
        (["--from", "hub", "--checkpoint", "x"], "--from hub needs --clip"),
        ([*FROM_CLIP, "clip.pth", "--set", "a=1"], "a CLIP alone has none"),
        (["--from", "ovseg", "--checkpoint", "no.pth"], "no.pth does not exist"),
        (["--from", "ovseg", "--checkpoint", "x.json"], "x.json is damaged, truncated or no"),
        (["--from", "ovseg", "--checkpoint", "clip.pth"], "clip.pth is no OVSeg checkpoint"),
        (["--from", "clip", "--checkpoint", "x.pth"], "convert them with --from ovseg"),
        (
            ["--from", "ovseg", "--checkpoint", "x.pth", "--config", "ovseg-r101c-vitb16"],
            "ovseg-r101c-vitb16: backbone.type is resnet-deeplab, but by their shapes the weights",
        ),
        (["--from", "ovseg", "--checkpoint", "x.pth", "--config", "no.json"], "no configuration"),
    ],
)
def test_errors_are_one_sentence_and_write_nothing(
    folder, tmp_path, monkeypatch, capsys, arguments, said
):
    monkeypatch.chdir(folder)
    assert convert(monkeypatch, *arguments, "--output", tmp_path / "model") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("convert_checkpoint: error: ")
    assert said in error
    assert not (tmp_path / "model").exists()
