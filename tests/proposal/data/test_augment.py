"""Crops that keep photo and masks together."""

from __future__ import annotations

import numpy as np
import pytest

from proposal.data.augment import AugmentConfig, Crop, augment, paste
from proposal.data.colour import jitter_colour
from proposal.data.photo import pack_photo, shrunk_size

PLAIN = AugmentConfig(zoom=(1.0, 1.0), flip=False, colour=False, min_area=1)


def photo(objects: int, size_hw: tuple[int, int] = (40, 60)):
    """Black, with white objects that are exactly the masks."""
    rng = np.random.default_rng(objects)
    masks = np.zeros((objects, *size_hw), dtype=bool)
    for mask in masks:
        y, x = rng.integers(0, size_hw[0] - 8), rng.integers(0, size_hw[1] - 8)
        mask[y : y + 8, x : x + 8] = True
    image = np.repeat(masks.any(axis=0)[..., None] * np.uint8(255), 3, axis=2)
    return pack_photo(image, masks, list(range(objects)), 1000)


@pytest.mark.parametrize("objects", [0, 1, 9])
@pytest.mark.parametrize("side", [32, 50])
def test_masks_stay_on_their_objects(objects, side):
    config = AugmentConfig(zoom=(0.5, 3.0), aspect=1.5, colour=False, min_area=1)
    for seed in range(8):
        crop = augment(photo(objects), side, config, np.random.default_rng(seed))
        assert crop.image.shape == (side, side, 3)
        assert crop.masks.shape == (len(crop.labels), side, side)
        white = crop.image[..., 0] > 128
        covered = crop.masks.any(axis=0) if len(crop.masks) else np.zeros((side, side), bool)
        # Resizing blurs the borders, nothing else may differ
        assert (white != covered).mean() < 0.12


def test_nothing_changes_at_natural_size():
    original = photo(3, (40, 40))
    crop = augment(original, 40, PLAIN, np.random.default_rng(0))
    assert (crop.image == original.image).all()
    assert (crop.masks == original.masks).all()
    assert crop.labels.tolist() == [0, 1, 2]


def test_small_photos_are_padded_at_the_right_and_bottom():
    half = AugmentConfig(zoom=(0.5, 0.5), flip=False, colour=False)
    crop = augment(photo(0, (40, 40)), 40, half, np.random.default_rng(0))
    assert (crop.image[:20, :20] == 0).all()
    assert (crop.image[20:] == 128).all() and (crop.image[:, 20:] == 128).all()


def test_flips_both():
    flipping = AugmentConfig(zoom=(1.0, 1.0), colour=False, min_area=1)
    original = photo(2, (40, 40))
    crops = [augment(original, 40, flipping, np.random.default_rng(s)) for s in range(12)]
    flipped = [c for c in crops if not (c.image == original.image).all()]
    assert 0 < len(flipped) < 12
    assert all((c.masks == original.masks[:, :, ::-1]).all() for c in flipped)


def test_remains_too_small_to_learn_from_are_dropped():
    strict = AugmentConfig(zoom=(1.0, 1.0), flip=False, colour=False, min_area=65)
    assert len(augment(photo(3, (40, 40)), 40, strict, np.random.default_rng(0)).masks) == 0


def test_pasted_objects_cover_what_was_there():
    below = Crop(np.zeros((8, 8, 3), np.uint8), np.ones((1, 8, 8), np.uint8), np.zeros(1, np.int64))
    new = np.zeros((2, 8, 8), np.uint8)
    new[0, :3, :3] = 1
    new[1] = 1  # covers most of the crop: never pasted
    above = Crop(np.full((8, 8, 3), 200, np.uint8), new, np.ones(2, np.int64))
    counts = set()
    for seed in range(10):
        crop = paste(below, above, PLAIN, np.random.default_rng(seed))
        counts.add(len(crop.masks))
        assert (crop.masks.sum(axis=0) == 1).all()
        assert ((crop.image[..., 0] == 200) == (crop.masks[1:].any(axis=0))).all()
    assert counts == {1, 2}
    assert below.masks.all()


def test_colour_keeps_shape_and_kind():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    copies = [jitter_colour(image.copy(), np.random.default_rng(s)) for s in range(20)]
    assert all(c.shape == image.shape and c.dtype == np.uint8 for c in copies)
    assert any((c != image).any() for c in copies)


def test_photos_are_kept_small():
    masks = np.ones((2, 100, 300), dtype=bool)
    kept = pack_photo(np.zeros((100, 300, 3), np.uint8), masks, [3, 4], 50)
    assert kept.image.shape == (50, 150, 3)
    assert kept.masks.shape == (2, 50, 150) and kept.masks.all()
    assert kept.packed_masks.nbytes == 2 * -(-50 * 150 // 8)
    assert shrunk_size((10, 20), 50) == (10, 20)
    assert shrunk_size((1, 5000), 1) == (1, 5000)


@pytest.mark.parametrize("settings", [{"zoom": (0.0, 1.0)}, {"zoom": (2.0, 1.0)}, {"aspect": 0.5}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match="must be"):
        AugmentConfig(**settings)
