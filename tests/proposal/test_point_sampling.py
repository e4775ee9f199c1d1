"""Points at which masks are compared."""

from __future__ import annotations

import pytest
import torch

from proposal.point_sampling import interpolate_at, pick_at, unsure_points


def test_values_at_points_by_hand():
    maps = torch.tensor([[[[0.0, 4.0]]]])  # 1 x 2 cells, centres at x = 1/4 and 3/4
    points = torch.tensor([[[0.25, 0.5], [0.5, 0.5], [0.75, 0.5]]])
    assert interpolate_at(maps, points).flatten().tolist() == [0, 2, 4]
    assert pick_at(maps, points).flatten().tolist() == [0, 4, 4]
    masks = torch.tensor([[[[True, False], [False, True]]]])
    corners = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.99, 0.99]]])
    assert pick_at(masks, corners).flatten().tolist() == [True, False, True]


@pytest.mark.parametrize("masks", [1, 3])
def test_most_points_lie_where_the_answer_is_unsure(masks):
    torch.manual_seed(0)
    logits = torch.full((masks, 16, 16), 9.0)
    logits[:, :, 8:] = 0.0  # the right half is unsure
    points = unsure_points(logits, 100)
    assert points.shape == (masks, 100, 2)
    assert ((points[..., 0] > 0.45).float().mean(1) > 0.8).all()
