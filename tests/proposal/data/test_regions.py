"""Folders of region PNGs."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from proposal.data.regions import group_by_photo, read_regions, split_map


@pytest.fixture
def folders(tmp_path):
    images, regions = tmp_path / "images", tmp_path / "regions"
    images.mkdir()
    regions.mkdir()
    for name in ("a.jpg", "b_1.png"):
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(images / name)
    return images, regions


def save_map(path, values):
    Image.fromarray(np.array(values, dtype=np.uint8)).save(path)


def test_maps_find_their_photos_with_and_without_annotators(folders):
    images, regions = folders
    for stem in ("a_0", "a_1", "b_1", "b_1_x"):
        save_map(regions / f"{stem}.png", [[0, 1, 1], [2, 2, 0]])
    photos = read_regions(regions, images)
    assert [photo.path.name for photo in photos] == ["a.jpg", "a.jpg", "b_1.png", "b_1.png"]
    assert photos[0].masks().sum(axis=(1, 2)).tolist() == [2, 2]
    assert {stem: len(maps) for stem, maps in group_by_photo(photos).items()} == {"a": 2, "b_1": 2}


@pytest.mark.parametrize(("values", "count"), [([[0, 0]], 0), ([[0, 7]], 1), ([[3, 1]], 2)])
def test_each_value_but_zero(values, count):
    masks = split_map(np.array(values))
    assert masks.shape == (count, 1, 2)
    assert (masks.sum(axis=0) == (np.array(values) != 0)).all()


def test_what_is_missing_is_named(folders, tmp_path):
    images, regions = folders
    with pytest.raises(ValueError, match="must hold region PNGs, found none"):
        read_regions(regions, images)
    save_map(regions / "stranger.png", [[1]])
    with pytest.raises(ValueError, match="stranger.png has no photo"):
        read_regions(regions, images)
    with pytest.raises(FileNotFoundError, match="no folder of photos"):
        read_regions(regions, tmp_path / "absent")
