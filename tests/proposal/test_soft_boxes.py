import math

import pytest
import torch

from proposal.query_grid import pyramid_points
from proposal.soft_boxes import GAIN, SoftBoxes


@pytest.mark.parametrize("queries", [0, 1, 2, 100, 144])
def test_a_pyramid_has_as_many_points_as_queries_and_coarser_ones_are_larger(queries):
    points, radii = pyramid_points(queries)
    assert points.shape == (queries, 2)
    assert radii.shape == (queries,)
    assert (radii.diff() >= 0).all()


def test_a_box_worked_by_hand():
    boxes = SoftBoxes(torch.tensor([[0.5, 0.5]]), torch.tensor([0.25]), 4)
    logits = boxes(torch.randn(1, 1, 4), (1, 2))
    # One row in the middle, columns at 1/4 and 3/4: one radius from the centre.
    expected = GAIN * (2 * math.exp(-0.5) - 1)
    assert logits.shape == (1, 1, 1, 2)
    assert logits.flatten().tolist() == pytest.approx([expected] * 2, rel=1e-5)


@pytest.mark.parametrize("queries", [1, 7])
def test_boxes_start_at_their_points_and_queries_move_them(queries):
    points, radii = pyramid_points(queries)
    boxes = SoftBoxes(points, radii, 4)
    drawn = boxes(torch.randn(2, queries, 4), (50, 50))
    assert drawn.shape == (2, queries, 50, 50)
    peaks = drawn[1].flatten(1).argmax(1)
    places = torch.stack([peaks // 50 + 0.5, peaks % 50 + 0.5], dim=1) / 50
    assert (places - points).abs().max() < 0.03
    with torch.no_grad():
        boxes.offsets.weight[0, 0] = 1.0  # the first number of a query moves it down
    moved = boxes(torch.ones(1, queries, 4), (50, 50))
    assert (moved[0].flatten(1).argmax(1) // 50 > peaks // 50).all()


def test_boxes_learn_from_the_masks_alone():
    boxes = SoftBoxes(torch.tensor([[0.5, 0.5]]), torch.tensor([0.25]), 4)
    wanted = torch.zeros(1, 1, 16, 16)
    wanted[..., 8:, 8:] = 1
    optimiser = torch.optim.Adam(boxes.parameters(), 0.1)
    for _ in range(30):
        logits = boxes(torch.ones(1, 1, 4), (16, 16))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    overlap = ((logits > 0) & (wanted > 0)).sum() / ((logits > 0) | (wanted > 0)).sum()
    assert overlap > 0.7
