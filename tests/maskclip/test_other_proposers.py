"""Segmentors whose proposals come from the hub or from files, named by a CLIP of ours alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from maskclip.segmentor import Segmentor

NAMES = ["cat", "sofa|couch"]
PHOTO = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
FEW = [f"proposer.{each}" for each in ("points_per_side=2", "min_quality=-9", "min_stability=-1")]


@pytest.mark.parametrize("kind", ["mask2former", "sam2"])
def test_a_hub_proposer_is_saved_as_a_reference(tiny_checkpoint, tiny_hub, tmp_path, kind):
    settings = FEW if kind == "sam2" else ["proposer.duplicate_iou=0.95"]
    place = f"hub:{tiny_hub(kind)}"
    segmentor = Segmentor.from_pretrained(tiny_checkpoint, proposer=place, overrides=settings)
    expected = segmentor.segment(PHOTO, NAMES, return_regions=True)
    assert len(expected.regions.keep) > 0
    assert expected.model["proposer"] == place
    segmentor.save_pretrained(tmp_path / "copy")
    section = json.loads((tmp_path / "copy" / "config.json").read_text())["proposer"]
    assert section["type"] == place
    assert section["duplicate_iou"] == segmentor.proposer.config.duplicate_iou
    copy = Segmentor.from_pretrained(tmp_path / "copy")
    assert copy.proposer.config == segmentor.proposer.config
    assert copy.config == segmentor.config
    assert np.array_equal(copy.segment(PHOTO, NAMES).labels, expected.labels)
    (tmp_path / "copy" / "model.safetensors").stat()
    changed = Segmentor.from_pretrained(tmp_path / "copy", overrides=["proposer.mask_side=20"])
    assert changed.proposer.propose(PHOTO).mask_probs.shape[1:] == (13, 20)


def test_a_model_of_the_hub_is_saved_with_its_commit(
    tiny_checkpoint, tiny_hub, small_hub, tmp_path
):
    folder = tiny_hub("mask2former")
    small_hub.add("them/masks", {path.name: path.read_bytes() for path in folder.iterdir()})
    segmentor = Segmentor.from_pretrained(tiny_checkpoint, proposer="hub:them/masks")
    segmentor.save_pretrained(tmp_path / "copy")
    section = json.loads((tmp_path / "copy" / "config.json").read_text())["proposer"]
    assert section["type"] == f"hub:them/masks@{small_hub.repos['them/masks'].commit}"
    copy = Segmentor.from_pretrained(tmp_path / "copy")
    expected = segmentor.segment(PHOTO, NAMES).labels
    assert np.array_equal(copy.segment(PHOTO, NAMES).labels, expected)


def test_what_stage_1_no_longer_says_is_not_asked_for(tiny_checkpoint, tiny_hub):
    overrides = ["segmentor.fusion_weight=0.6", "segmentor.objectness_power=1"]
    own = Segmentor.from_pretrained(tiny_checkpoint, overrides=overrides)
    assert own.config.fusion_weight == 0.6
    place = f"hub:{tiny_hub('mask2former')}"
    other = Segmentor.from_pretrained(tiny_checkpoint, proposer=place)
    assert (other.config.fusion_weight, other.config.objectness_power) == (1, 0)
    forced = Segmentor.from_pretrained(tiny_checkpoint, proposer=place, overrides=overrides)
    assert forced.config.fusion_weight == 0.6
    result = forced.segment(PHOTO, NAMES, return_regions=True)  # mute: CLIP alone names
    alone = other.segment(PHOTO, NAMES, return_regions=True)
    assert np.allclose(result.regions.class_probs, alone.regions.class_probs, atol=1e-6)


def test_masks_that_were_saved_are_proposals_again(tiny_checkpoint, tmp_path):
    segmentor = Segmentor.from_pretrained(tiny_checkpoint)
    result = segmentor.segment(PHOTO, NAMES, return_regions=True)
    result.save(tmp_path / "out", "sub/photo", ["masks"])
    ready = Segmentor.from_pretrained(tiny_checkpoint, proposer=f"files:{tmp_path / 'out'}")
    again = ready.segment(PHOTO, NAMES, stem="sub/photo", return_regions=True)
    assert np.array_equal(
        again.regions.masks(PHOTO.shape[:2]), result.regions.masks(PHOTO.shape[:2])
    )
    ready.save_pretrained(tmp_path / "copy")
    copy = Segmentor.from_pretrained(tmp_path / "copy")
    assert copy.proposer.place == Path(tmp_path / "out")


@pytest.mark.parametrize("kind", ["maskformer", "mask2former", "oneformer", "eomt", "sam", "sam2"])
def test_every_kind_works_with_the_packaged_clip(tiny_hub, kind):
    settings = FEW if kind.startswith("sam") else []
    segmentor = Segmentor.from_pretrained(
        "nano", proposer=f"hub:{tiny_hub(kind)}", overrides=settings
    )
    results = segmentor.segment_batch([PHOTO, PHOTO[:9, :7], PHOTO[:1, :1]], NAMES)
    for result, size_hw in zip(results, [(40, 60), (9, 7), (1, 1)], strict=True):
        assert result.labels.shape == size_hw
        assert set(np.unique(result.labels)) <= {0, 1, result.ignore}
