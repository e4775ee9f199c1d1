import math

import pytest
import torch
from torch.nn import functional as F

from maskclip.adaptation.losses import (
    BATCH_LOSSES,
    infonce_loss,
    multi_positive_loss,
    vocabulary_loss,
)

EYE = torch.eye(4)  # embeddings of 4 nouns, at right angles
ALONE = torch.eye(4, dtype=torch.bool)  # every noun is related to itself alone


def loss_of(kind, regions, nouns, related=ALONE, scale=2.0, **options):
    nouns = torch.tensor(nouns, dtype=torch.int64)
    options["scale"] = torch.tensor(scale)
    if kind == "vocabulary":
        return vocabulary_loss(regions, EYE, nouns, related=related[nouns], **options)
    related = related[nouns][:, nouns]
    return BATCH_LOSSES[kind](regions, EYE[nouns], nouns, related=related, **options)


def test_vocabulary_loss_is_the_cross_entropy_over_all_nouns():
    expected = math.log(math.exp(2) + 3) - 2
    assert loss_of("vocabulary", EYE[:1], [0]).item() == pytest.approx(expected, abs=1e-6)


def test_a_related_noun_is_no_negative():
    related = ALONE.clone()
    related[0, 1] = related[1, 0] = True
    expected = math.log(math.exp(2) + 2) - 2
    assert loss_of("vocabulary", EYE[:1], [0], related).item() == pytest.approx(expected, abs=1e-6)


def test_label_smoothing_equals_torch_where_nothing_is_related():
    regions = F.normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    nouns = [0, 1, 2, 3, 1]
    found = loss_of("vocabulary", regions, nouns, label_smoothing=0.2)
    expected = F.cross_entropy(2 * regions, torch.tensor(nouns), label_smoothing=0.2)
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)


def test_equal_nouns_are_positives_together_but_negatives_in_the_published_form():
    regions = EYE[[0, 0, 1]]
    fair = loss_of("multi_positive", regions, [0, 0, 1])
    # Rows of the equal two: both logits 2, the other 0, targets 1/2 each; columns the same.
    equal = math.log(2 * math.exp(2) + 1) - 2
    other = math.log(math.exp(2) + 2) - 2
    assert fair.item() == pytest.approx((2 * equal + other) / 3, abs=1e-6)
    assert loss_of("infonce", regions, [0, 0, 1]).item() == pytest.approx(fair.item(), abs=1e-6)
    # Perfect regions at a high scale: the fair gradient vanishes, the published one does not
    # when one of the two equal regions is a little better than the other.
    uneven = F.normalize(torch.tensor([[1.0, 0, 0, 0], [1.0, 0.3, 0, 0], [0, 1.0, 0, 0]]), dim=1)
    fair = loss_of("multi_positive", uneven, [0, 0, 1], scale=20.0)
    assert loss_of("infonce", uneven, [0, 0, 1], scale=20.0).item() >= fair.item() - 1e-6


@pytest.mark.parametrize("kind", ["multi_positive", "infonce"])
def test_contrast_needs_more_than_one_region(kind):
    assert loss_of(kind, EYE[:1], [0]).item() == pytest.approx(0, abs=1e-6)
    assert loss_of(kind, EYE[:0], []).item() == 0


@pytest.mark.parametrize("loss", [multi_positive_loss, infonce_loss])
def test_contrast_of_two_by_hand(loss):
    two = ALONE[:2, :2]
    found = loss(EYE[:2], EYE[:2], torch.tensor([0, 1]), scale=torch.tensor(1.0), related=two)
    assert found.item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-6)


@pytest.mark.parametrize("kind", ["multi_positive", "infonce"])
def test_one_side_is_the_cross_entropy_of_regions_over_nouns(kind):
    regions = F.normalize(torch.tensor([[1.0, 0.5, 0, 0], [0.2, 1.0, 0, 0]]), dim=1)
    logits = 2 * regions @ EYE[:2].mT
    found = loss_of(kind, regions, [0, 1], symmetric=False)
    assert found.item() == pytest.approx(F.cross_entropy(logits, torch.arange(2)).item(), abs=1e-6)
    both = (found + F.cross_entropy(logits.mT, torch.arange(2))) / 2
    assert loss_of(kind, regions, [0, 1]).item() == pytest.approx(both.item(), abs=1e-6)
