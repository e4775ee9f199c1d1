"""Both stages' run folders become one model."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from maskclip.joining import join_parts
from maskclip.segmentor import Segmentor


def test_the_joined_model_is_its_parts(tiny_checkpoint, tmp_path):
    folder = tmp_path / "joined"
    size = join_parts(
        str(tiny_checkpoint),
        str(tiny_checkpoint),
        folder,
        overrides=["segmentor.objectness_power=2"],
    )
    assert size == (folder / "model.safetensors").stat().st_size
    config = json.loads((folder / "config.json").read_text())
    assert config["name"] == "joined"
    assert config["segmentor"]["objectness_power"] == 2
    assert config["provenance"]["joined_from"]["clip"] == str(tiny_checkpoint)
    before, after = (load_file(each / "model.safetensors") for each in (tiny_checkpoint, folder))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_half_is_about_half_as_large_and_still_segments(tiny_checkpoint, tmp_path):
    parts = (str(tiny_checkpoint), str(tiny_checkpoint))
    whole = join_parts(*parts, tmp_path / "whole")
    half = join_parts(*parts, tmp_path / "half", half=True)
    assert 0.45 < half / whole < 0.6
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    result = Segmentor.from_pretrained(tmp_path / "half").segment(image, ["cat", "dog"])
    assert result.labels.shape == (40, 60)


def test_settings_of_all_parts_are_kept(tiny_checkpoint, tmp_path):
    settings = ["clip.box_margin=0.05", "segmentor.temperature=20", "proposer.short_side=96"]
    parts = (str(tiny_checkpoint), str(tiny_checkpoint))
    join_parts(*parts, tmp_path / "joined", overrides=settings)
    config = json.loads((tmp_path / "joined" / "config.json").read_text())
    assert config["clip"]["box_margin"] == 0.05
    assert config["segmentor"]["temperature"] == 20
    assert config["proposer"]["short_side"] == 96


def test_superpixels_need_no_run(tiny_checkpoint, tmp_path):
    join_parts("superpixels", str(tiny_checkpoint), tmp_path / "joined")
    config = json.loads((tmp_path / "joined" / "config.json").read_text())
    assert config["proposer"]["type"] == "superpixels"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["text.background=blur"], "must look like a.b=value with a one of proposer, clip, segm"),
        (["clip.background=red"], "background must be one of mean, .* got 'red'"),
        (["segmentor.nonsense=1"], "nonsense"),
    ],
)
def test_wrong_settings_write_nothing(tiny_checkpoint, tmp_path, settings, said):
    parts = (str(tiny_checkpoint), str(tiny_checkpoint))
    with pytest.raises(ValueError, match=said):
        join_parts(*parts, tmp_path / "joined", overrides=settings)
    assert not (tmp_path / "joined").exists()


def test_a_full_folder_is_left_alone(tiny_checkpoint, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="must be a new or empty folder"):
        join_parts(str(tiny_checkpoint), str(tiny_checkpoint), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
