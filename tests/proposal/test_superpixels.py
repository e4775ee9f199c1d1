"""Superpixels: every scale, no twins, largest first."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from proposal.superpixels import (
    SuperpixelConfig,
    SuperpixelProposer,
    find_duplicates,
    number_regions,
)


def quarters() -> np.ndarray:
    """A photo of four plain colours, of which the left two are alike."""
    image = np.zeros((64, 96, 3), dtype=np.uint8)
    image[:32, 48:] = (250, 30, 30)
    image[32:, 48:] = (30, 30, 250)
    return image


def test_plain_areas_are_found_and_largest_first():
    proposals = SuperpixelProposer().propose(quarters())
    areas = proposals.mask_probs.sum(dim=(1, 2))
    assert areas.tolist() == sorted(areas.tolist(), reverse=True)
    assert torch.allclose(proposals.scores, areas / (64 * 96))
    left = torch.zeros(64, 96)
    left[:, :48] = 1
    assert ious(proposals.mask_probs[:1], left[None]).item() > 0.9
    assert proposals.mask_probs.amax(dim=0).all()  # every pixel is in some region


def test_no_two_regions_are_twins():
    masks = SuperpixelProposer().propose(quarters()).mask_probs
    assert len(masks) > 3
    assert (ious(masks, masks) - torch.eye(len(masks))).max() < 0.9


def ious(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    one, other = one.flatten(1), other.flatten(1)
    shared = one @ other.T
    return shared / (one.sum(1)[:, None] + other.sum(1) - shared)


def test_only_the_largest_are_kept():
    config = SuperpixelConfig(max_regions=1)
    assert len(SuperpixelProposer(config).propose(quarters())) == 1


def test_large_photos_are_reduced_and_small_ones_are_not_enlarged():
    proposer = SuperpixelProposer(SuperpixelConfig(short_side=20))
    assert proposer.propose(np.zeros((40, 80, 3), np.uint8)).mask_probs.shape[1:] == (20, 40)
    assert proposer.propose(np.zeros((5, 9, 3), np.uint8)).mask_probs.shape[1:] == (5, 9)


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 300), (300, 1), (2, 2)])
def test_tiny_photos_have_one_region(size_hw):
    proposals = SuperpixelProposer().propose(np.full((*size_hw, 3), 7, dtype=np.uint8))
    assert len(proposals) == 1
    assert proposals.mask_probs.bool().all()


def test_twins_are_found_by_hand():
    """Halves against a map whose border lies one column off: IoU 4/5 and 5/6."""
    one = np.repeat([[0] * 5 + [1] * 5], 2, axis=0)
    other = np.repeat([[0] * 4 + [1] * 6], 2, axis=0)
    ids, areas = number_regions([one, other])
    assert areas.tolist() == [10, 10, 8, 12]
    assert find_duplicates(ids, areas, 0.82).tolist() == [False, True, False, False]
    assert find_duplicates(ids, areas, 0.8).tolist() == [False, True, True, False]
    assert not find_duplicates(ids, areas, 0.9).any()


def test_one_scale_is_a_partition():
    masks = SuperpixelProposer(SuperpixelConfig(scales=(100.0,))).propose(quarters()).mask_probs
    assert (masks.sum(dim=0) == 1).all()


@pytest.mark.parametrize(
    "settings", [{"scales": ()}, {"scales": (0.0,)}, {"short_side": 0}, {"max_regions": 0}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match="must be"):
        SuperpixelConfig(**settings)
