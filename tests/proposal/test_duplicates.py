"""Masks that say the same."""

from __future__ import annotations

import pytest
import torch

from proposal.duplicates import distinct_masks


def row(*bits: int) -> torch.Tensor:
    return torch.tensor([bits], dtype=torch.bool)  # (1, w)


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


def test_many_masks_as_by_definition():
    masks = torch.rand(60, 9, 11, generator=torch.Generator().manual_seed(0)) > 0.3
    scores = torch.rand(60, generator=torch.Generator().manual_seed(1))
    kept: list[int] = []
    for row in scores.argsort(descending=True).tolist():
        ious = [(masks[row] & masks[k]).sum() / (masks[row] | masks[k]).sum() for k in kept]
        if not any(iou >= 0.55 for iou in ious):
            kept.append(row)
    assert 5 < len(kept) < 55
    assert distinct_masks(masks, scores, 0.55).tolist() == kept
