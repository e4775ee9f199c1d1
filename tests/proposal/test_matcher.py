import math

import pytest
import torch

from proposal.criterion import dice_losses, focal_losses
from proposal.matcher import MatchWeights, Target, dice_costs, focal_costs, match


def test_costs_worked_by_hand():
    logits = torch.tensor([[0.0, 0.0]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    # p = 1/2: a pixel inside costs .25 * .25 * ln 2, one outside .75 * .25 * ln 2.
    inside, outside = 0.0625 * math.log(2), 0.1875 * math.log(2)
    expected = [(inside + outside) / 2, outside]
    assert focal_costs(logits, targets)[0].tolist() == pytest.approx(expected)
    # The smoothed overlap is 2 of 3, and with nothing to find 1 of 2.
    assert dice_costs(logits, targets)[0].tolist() == pytest.approx([1 / 3, 1 / 2])


def test_costs_of_pairs_are_the_losses_of_pairs():
    torch.manual_seed(0)
    logits, targets = 5 * torch.randn(4, 30), (torch.rand(3, 30) > 0.5).float()
    rows, columns = logits.repeat_interleave(3, 0), targets.repeat(4, 1)
    for costs, losses in ((focal_costs, focal_losses), (dice_costs, dice_losses)):
        expected = losses(rows, columns).view(4, 3)
        assert torch.allclose(costs(logits, targets), expected, atol=1e-6)


@pytest.mark.parametrize("targets", [0, 1, 3])
def test_the_query_with_the_right_mask_is_chosen(targets):
    masks = torch.eye(3, dtype=torch.uint8).view(3, 1, 3)[:targets]
    logits = 20 * torch.eye(3).view(3, 1, 3).flip(0) - 10  # query 2 draws mask 0, and so on
    queries, chosen = match(
        torch.full((3, 2), 0.5), logits, torch.zeros(targets, dtype=torch.int64), masks,
        MatchWeights(),
    )  # fmt: skip
    assert dict(zip(chosen.tolist(), queries.tolist(), strict=True)) == {
        index: 2 - index for index in range(targets)
    }


def test_equal_masks_are_told_apart_by_class():
    masks = torch.ones(2, 1, 1, dtype=torch.uint8)
    probs = torch.tensor([[0.1, 0.8, 0.1], [0.7, 0.1, 0.2]])
    queries, chosen = match(
        probs, torch.zeros(2, 1, 1), torch.tensor([0, 1]), masks, MatchWeights()
    )
    assert list(zip(queries.tolist(), chosen.tolist(), strict=True)) == [(0, 1), (1, 0)]


def test_more_targets_than_queries_leaves_some_unmatched():
    queries, chosen = match(
        torch.ones(2, 1), torch.zeros(2, 2, 2), torch.zeros(5, dtype=torch.int64),
        torch.ones(5, 2, 2), MatchWeights(),
    )  # fmt: skip
    assert sorted(queries.tolist()) == [0, 1]
    assert len(set(chosen.tolist())) == 2


def test_a_network_that_diverged_still_gets_an_assignment():
    queries, _ = match(
        torch.ones(2, 1), torch.full((2, 2, 2), math.nan), torch.zeros(1, dtype=torch.int64),
        torch.ones(1, 2, 2), MatchWeights(),
    )  # fmt: skip
    assert len(queries) == 1


@pytest.mark.parametrize("masks", [(2, 4), (1, 4, 4)])
def test_targets_must_fit_their_labels(masks):
    with pytest.raises(ValueError, match=r"masks must be \(M, H, W\) and labels \(M,\)"):
        Target(torch.zeros(masks), torch.zeros(2, dtype=torch.int64))
