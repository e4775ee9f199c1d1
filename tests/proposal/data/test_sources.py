"""Data sources by configuration, and the crops that come of them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from proposal.data.regions import free_regions
from proposal.data.source_config import DataConfig, SourceConfig, expand
from proposal.data.sources import open_sources, open_validation
from proposal.data.stream import CropStream, stack


@pytest.fixture
def config(tmp_path) -> DataConfig:
    """Photos 0 to 2, each with one instance; 2 is held out; extra regions for photo 0."""
    (tmp_path / "images").mkdir()
    (tmp_path / "extra").mkdir()
    images, annotations = [], []
    for number in range(3):
        colour = np.full((48, 48, 3), 40 * number, dtype=np.uint8)
        Image.fromarray(colour).save(tmp_path / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": 48, "width": 48})
        box = [[0, 0, 24, 0, 24, 24, 0, 24]]
        annotations.append({"image_id": number, "segmentation": box, "area": 576, "iscrowd": 0})
    content = {"images": images, "annotations": annotations}
    (tmp_path / "i.json").write_text(json.dumps(content))
    (tmp_path / "val.txt").write_text("2.png\n")
    stuff = np.zeros((48, 48), dtype=np.uint8)
    stuff[:24, :24], stuff[24:] = 1, 2  # the instance painted again, and something new
    Image.fromarray(stuff).save(tmp_path / "extra" / "0.png")
    source = SourceConfig(images="{here}/images", instances="{here}/i.json")
    return DataConfig(
        folders={"here": str(tmp_path)},
        sources=(replace(source, extra_regions="{here}/extra"),),
        validation=source,
        held_out="{here}/val.txt",
        sides=(32, 64),
    )


def test_held_out_photos_are_only_measured_on(config):
    (source,) = open_sources(config)
    assert [photo.stem for photo in source.photos] == ["0", "1"]
    assert [photo.stem for photo in open_validation(config)] == ["2"]
    assert len(open_validation(replace(config, held_out=None))) == 3


def test_extra_regions_join_where_no_instance_is(config):
    (source,) = open_sources(config)
    assert source.load(0, 100).masks.sum(axis=(1, 2)).tolist() == [576, 24 * 48]
    assert source.load(1, 100).masks.sum(axis=(1, 2)).tolist() == [576]
    assert source.load(1, 24).masks.shape == (1, 24, 24)


def test_regions_are_cut_to_what_is_free():
    values = np.array([[1, 1, 1, 1, 1, 2, 2]])
    taken = np.array([[True, False, False, False, False, True, False]])
    assert free_regions(values, taken).tolist() == [[[False] + [True] * 4 + [False] * 2]]


def test_all_crops_of_a_batch_have_one_side(config):
    """A border between two sides once fell inside a batch, which then could not be stacked."""
    stream = CropStream(open_sources(config), config, seed=1, batches=7, batch_size=3)
    for first in range(0, 21, 3):
        stack([stream[number] for number in range(first, first + 3)])


def test_crops_depend_on_their_number_alone(config):
    stream = CropStream(open_sources(config), config, seed=1, batches=5, batch_size=2)
    twin = CropStream(open_sources(config), config, seed=1, batches=5, batch_size=2)
    late = twin[7]  # without having drawn the others first
    early = [stream[number] for number in range(10)]
    assert (late.image == early[7].image).all()
    assert [crop.image.shape[0] for crop in early] == [32] * 6 + [64] * 4
    other = CropStream(open_sources(config), config, seed=2, batches=5, batch_size=2)
    assert any((other[n].image != early[n].image).any() for n in range(5))


@pytest.mark.parametrize("count", [1, 3])
def test_batches_hold_any_number_of_masks(config, count):
    stream = CropStream(open_sources(config), config, seed=1, batches=100, batch_size=1)
    batch = stack([stream[number] for number in range(count)])
    assert batch.images.shape == (count, 3, 32, 32) and batch.images.dtype == torch.uint8
    assert all(len(t.masks) == len(t.labels) for t in batch.targets)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": ()}, "at least one set"),
        ({"held_out": "{here}/none.txt"}, "no list of held out photos"),
        ({"held_out": "{where}/val.txt"}, "needs data.folders to hold 'where'"),
        ({"sources": (SourceConfig(images="x", regions="y"),)}, "no folder of region PNGs y"),
    ],
)
def test_data_that_is_not_there_is_named(config, change, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        open_sources(replace(config, **change))


def test_a_photo_that_is_not_there_is_named(config):
    expand("{here}/images/1.png", config).unlink()
    with pytest.raises(FileNotFoundError, match="1.png"):
        open_sources(config)


def test_nothing_left_to_train_on_is_refused(config):
    expand("{here}/val.txt", config).write_text("0\n1\n2\n")
    with pytest.raises(ValueError, match="no photos left"):
        open_sources(config)


def test_masks_of_another_size_are_refused(config):
    Image.new("RGB", (10, 10)).save(expand("{here}/images/1.png", config))
    (source,) = open_sources(config)
    with pytest.raises(ValueError, match=r"1.png must have its size \(10, 10\)"):
        source.load(1, 100)


def test_a_source_is_either_kind():
    for settings in ({}, {"instances": "a", "regions": "b"}):
        with pytest.raises(ValueError, match="either instances"):
            SourceConfig(**settings)
