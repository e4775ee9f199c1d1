"""Models from and to a hub: the real client against a small hub on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image

from maskclip import Segmentor

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["cat", "dog"]


@pytest.fixture
def writer(small_hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", small_hub.token)
    return small_hub


def published(tiny_checkpoint) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in tiny_checkpoint.iterdir()}


def test_a_model_comes_by_its_hub_id(small_hub, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small_hub.add("user/tiny", published(tiny_checkpoint))
    photo = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    ours = Segmentor.from_pretrained(tiny_checkpoint).segment(photo, NAMES)
    theirs = Segmentor.from_pretrained("user/tiny").segment(photo, NAMES)
    assert np.array_equal(ours.labels, theirs.labels)
    assert theirs.model["name"] == "tiny"


def test_push_and_from_pretrained_are_a_round_trip(writer, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    segmentor = Segmentor.from_pretrained(tiny_checkpoint)
    segmentor.provenance = {"license": "CC-BY-NC-4.0"}
    assert segmentor.push_to_hub("user/copy") == f"{writer.url}/user/copy"
    files = writer.repos["user/copy"].files
    assert sorted(files) == ["README.md", "config.json", "model.safetensors"]
    assert files["model.safetensors"] == (tiny_checkpoint / "model.safetensors").read_bytes()
    assert "license: cc-by-nc-4.0" in files["README.md"].decode()
    back = Segmentor.from_pretrained("user/copy")
    assert back.provenance == {"license": "CC-BY-NC-4.0"}
    weights = zip(segmentor.clip.state_dict().items(), back.clip.state_dict().items(), strict=True)
    assert all(a == b and x.equal(y) for (a, x), (b, y) in weights)


def test_a_card_that_is_there_is_left_alone(writer, tiny_checkpoint):
    writer.add("user/copy", {"README.md": b"mine"})
    Segmentor.from_pretrained(tiny_checkpoint).push_to_hub("user/copy")
    assert writer.repos["user/copy"].files["README.md"] == b"mine"


def test_a_private_model_stays_private(writer, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Segmentor.from_pretrained(tiny_checkpoint).push_to_hub("user/own", private=True)
    assert writer.repos["user/own"].private
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(OSError, match="no folder user/own here, and .* HF_TOKEN"):
        Segmentor.from_pretrained("user/own")


def test_a_hub_without_xet_takes_it_too(writer, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    Segmentor.from_pretrained(tiny_checkpoint).push_to_hub("user/copy")
    assert constants.HF_HUB_DISABLE_XET is False
    assert len(writer.repos["user/copy"].files) == 3


def test_what_cannot_be_published(small_hub, tiny_checkpoint, monkeypatch):
    segmentor = Segmentor.from_pretrained(tiny_checkpoint)
    with pytest.raises(ValueError, match="set HF_TOKEN"):
        segmentor.push_to_hub("user/copy")
    with pytest.raises(ValueError, match="owner/name, got 'copy'"):
        segmentor.push_to_hub("copy")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(OSError, match="check HF_TOKEN"):
        segmentor.push_to_hub("user/copy")
    assert not small_hub.repos


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "tools" / "predict.py"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_predict_takes_a_hub_id_where_hf_endpoint_points(small_hub, tiny_checkpoint, tmp_path):
    small_hub.add("user/tiny", published(tiny_checkpoint))
    Image.new("RGB", (50, 40)).save(tmp_path / "x.png")
    arguments = ["--input", str(tmp_path / "x.png"), "--classes", "cat,dog", "--model", "user/tiny"]
    place = {"HF_ENDPOINT": small_hub.url, "HF_HOME": str(tmp_path / "home")}
    done = run(*arguments, "--output", str(tmp_path / "out"), **place)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "x.json").read_text())["model"]["name"] == "tiny"
    small_hub.repos.clear()
    offline = run(*arguments, "--output", str(tmp_path / "again"), **place, HF_HUB_OFFLINE="1")
    assert offline.returncode == 0, offline.stderr
    elsewhere = {**place, "HF_HOME": str(tmp_path / "empty")}
    unknown = run(*arguments, "--output", str(tmp_path / "none"), **elsewhere)
    assert unknown.returncode == 2
    assert "knows no model user/tiny" in unknown.stderr
    assert unknown.stderr.count("\n") == 1
    assert not (tmp_path / "none").exists()
