"""tools/train_net.py --stage clip, from label PNGs to a model that names with what it learned."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskclip import Segmentor
from maskclip.joining import join_parts

ROOT = Path(__file__).resolve().parents[2]
YAML = """
clip: {{prompt_depth: 2, pixel_prompt: 0.5, text_context: 2, templates: single,
       background: attenuate, background_strength: 0.3, box_margin: 1000}}
data:
  sources: [{{labels: {0}/labels, images: {0}/images, names: {0}/names.txt}}]
  evaluate: [{{labels: {0}/labels, images: {0}/images, names: {0}/names.txt}}]
train: {{mode: joint, learning_rate: 1.0e-3, steps: 3, batch_size: 4, warmup_steps: 1, workers: 0}}
"""


@pytest.fixture
def train_clip(monkeypatch):
    """The tool's exit code for arguments, in this process: detectron2 takes long to import."""

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["train_net.py", "--stage", "clip", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "tools" / "train_net.py"), run_name="__main__")
        return ended.value.code

    return call


@pytest.fixture
def config(tmp_path) -> Path:
    """Two photos, half sky and half road."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    labels = np.zeros((40, 60), np.uint8)
    labels[20:] = 1
    for index in range(2):
        photo = np.where(labels[..., None] == 0, 200 + index, 60).astype(np.uint8).repeat(3, axis=2)
        Image.fromarray(photo).save(tmp_path / "images" / f"{index}.png")
        Image.fromarray(labels).save(tmp_path / "labels" / f"{index}.png")
    (tmp_path / "names.txt").write_text("sky\nroad\n")
    (tmp_path / "config.yaml").write_text(YAML.format(tmp_path))
    return tmp_path / "config.yaml"


def test_a_run_is_measured_used_and_joined(train_clip, config, tiny_checkpoint, tmp_path, capsys):
    run = tmp_path / "run"
    common = ["--config", config, "--output", run]
    assert train_clip(*common, "--init", tiny_checkpoint) == 0
    files = {path.name for path in run.iterdir()}
    expected = {"config.json", "model.safetensors", "metrics.jsonl", "run.json", "report.json"}
    assert expected | {"curves.png", "checkpoints"} <= files
    assert any(name.startswith("events.out.tfevents") for name in files)
    assert train_clip(*common, "--eval-only") == 0
    measured = json.loads((run / "report.json").read_text())["metrics"]
    assert f"labels/top1: {measured['labels/top1']:.2f}" in capsys.readouterr().out
    photo = tmp_path / "images" / "0.png"
    used = Segmentor.from_pretrained(tiny_checkpoint, clip=str(run))
    result = used.segment(photo, ["sky", "road"], return_scores=True)
    assert (used.clip.config.text_context, used.clip.config.pixel_prompt) == (2, 0.5)
    join_parts(str(tiny_checkpoint), str(run), tmp_path / "joined")
    joined = Segmentor.from_pretrained(tmp_path / "joined", overrides=["segmentor.fusion_weight=1"])
    again = joined.segment(photo, ["sky", "road"], return_scores=True)
    np.testing.assert_array_equal(again.labels, result.labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "train.iterations=3"], "unknown key train.iterations: known are"),
        (["--set", "data.sources=[{labels: a, images: b}]"], "labels: a also needs names"),
        (["--set", "data.sources=[]"], "data.sources must hold pairs, got nothing"),
        (["--set", "train.mode=mtp"], "train.mode must be one of ft, mpt, ft_mpt, joint"),
        (["--set", "train.loss=hinge"], "train.loss must be one of multi_positive, infonce"),
        (["--init", "absent"], "absent"),
        ([], "give --init or set clip.model"),
        (["--eval-only", "--set", "data.evaluate=[]"], "--eval-only needs pairs to measure on"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    train_clip, config, tiny_checkpoint, tmp_path, capsys, arguments, message
):
    run = tmp_path / "run"
    init = ["--init", tiny_checkpoint] if "--eval-only" in arguments else []
    assert train_clip("--config", config, "--output", run, *init, *arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("train_net: error: ") and message in said
    assert said.count("\n") == 1
    assert not (run / "model.safetensors").exists()
