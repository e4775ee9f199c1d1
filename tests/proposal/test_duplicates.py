"""Masks that say the same."""

from __future__ import annotations

import pytest
import torch

from proposal.duplicates import distinct_masks, pairwise_ious


def row(*bits: int) -> torch.Tensor:
    return torch.tensor([bits], dtype=torch.bool)  # (1, w)


def test_overlaps_by_hand():
    masks = torch.stack([row(1, 1, 1, 0), row(0, 1, 1, 1), row(0, 0, 0, 0)])
    expected = [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 0]]
    assert pairwise_ious(masks).tolist() == expected


def test_the_better_one_stays_and_only_those_that_stay_drop_others():
    masks = torch.stack([row(1, 1, 1, 0, 0), row(1, 1, 1, 1, 0), row(1, 1, 1, 1, 1)])
    # IoUs: 0-1 .75, 1-2 .8, 0-2 .6. The second drops both; where it is the worst, one drops it.
    assert distinct_masks(masks, torch.tensor([0.5, 0.9, 0.1]), 0.7).tolist() == [1]
    assert distinct_masks(masks, torch.tensor([0.9, 0.5, 0.1]), 0.7).tolist() == [0, 2]


@pytest.mark.parametrize(("iou", "kept"), [(0.75, [0]), (0.76, [0, 1]), (2.0, [0, 1])])
def test_the_threshold_itself_counts_as_the_same(iou, kept):
    masks = torch.stack([row(1, 1, 1, 0), row(1, 1, 1, 1)])
    assert distinct_masks(masks, torch.ones(2), iou).tolist() == kept


def test_empty_masks_are_no_duplicates():
    masks = torch.zeros(2, 3, 3, dtype=torch.bool)
    assert distinct_masks(masks, torch.tensor([0.1, 0.2]), 0.5).tolist() == [1, 0]


def test_no_mask_and_one():
    assert distinct_masks(torch.zeros(0, 2, 2, dtype=torch.bool), torch.zeros(0), 0.5).shape == (0,)
    assert distinct_masks(torch.ones(1, 2, 2, dtype=torch.bool), torch.ones(1), 0.5).tolist() == [0]


def test_many_masks_go_in_blocks(monkeypatch):
    masks = torch.rand(20, 6, 7, generator=torch.Generator().manual_seed(0)) > 0.4
    whole = pairwise_ious(masks)
    monkeypatch.setattr("proposal.duplicates._VALUES_AT_ONCE", 100)
    assert torch.equal(pairwise_ious(masks), whole)
