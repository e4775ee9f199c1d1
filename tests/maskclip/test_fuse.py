"""What each proposal shows, by both stages together."""

import pytest
import torch
from torch.nn import functional as F

from maskclip.fuse import clip_alone, fuse, head_starts, name_logits, proposal_probs


def test_a_name_takes_the_best_of_its_synonyms():
    texts = torch.eye(4)
    owner = torch.tensor([0, 1, 1, 2])
    logits = name_logits(torch.tensor([[0.1, 0.2, 0.7, -0.3]]), texts, owner, 10.0)
    assert torch.allclose(logits, torch.tensor([[1.0, 7.0, -3.0]]))


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("owner", [[0, 1, 2], [0, 0, 1], [0, 0, 0]])
def test_logits_of_zero_one_many_regions(count, owner):
    embeddings = F.normalize(torch.randn(count, 5), dim=-1)
    texts = F.normalize(torch.randn(3, 5), dim=-1)
    logits = name_logits(embeddings, texts, torch.tensor(owner), 100.0)
    assert logits.shape == (count, max(owner) + 1)
    cosines = 100 * embeddings @ texts.mT
    assert torch.allclose(logits.amax(1), cosines.amax(1))


def test_only_names_all_of_whose_synonyms_are_new_get_a_head_start():
    untaught, owner = torch.tensor([True, True, False, False, True]), torch.tensor([0, 1, 1, 2, 0])
    assert torch.equal(head_starts(untaught, owner, 0.25), torch.tensor([0.25, 0.0, 0.0]))
    assert head_starts(torch.zeros(0, dtype=torch.bool), torch.zeros(0).long(), 1.0).shape == (0,)


def test_stage_1_knows_no_object():
    """Logits 1, 0 and no-object 0: e / (e + 2) and 1 / (e + 2)."""
    texts = torch.eye(3)[:2]
    probs = proposal_probs(
        torch.tensor([[5.0, 0, 0]]), torch.tensor([0, 0, 2.0]), texts, torch.arange(2), 1.0
    )
    e = torch.e
    assert torch.allclose(probs, torch.tensor([[e / (e + 2), 1 / (e + 2)]]))


def test_stage_1_of_names_alone():
    """Without a no-object vector, logits 1 (the best synonym's) and 0: e / (e + 1), the rest."""
    texts, owner = torch.eye(3), torch.tensor([0, 0, 1])
    probs = proposal_probs(torch.tensor([[0.0, 5.0, 0]]), None, texts, owner, 1.0)
    e = torch.e
    assert torch.allclose(probs, torch.tensor([[e / (e + 1), 1 / (e + 1)]]))
    assert proposal_probs(torch.zeros(0, 3), None, texts, owner, 1.0).shape == (0, 2)


STAGE1 = torch.tensor([[0.64, 0.36], [0.25, 0.04]])
CLIP = torch.tensor([[0.25, 0.81]])
KEEP = torch.tensor([True, False])


def test_fusion_by_hand():
    """w = 0.5: sqrt(0.64 * 0.25) = 0.4, sqrt(0.36 * 0.81) = 0.54; no crop: stage 1 alone."""
    fused = fuse(STAGE1, CLIP, KEEP, 0.5)
    assert torch.allclose(fused, torch.tensor([[0.4, 0.54], [0.25, 0.04]]))


def test_as_published_a_proposal_without_a_crop_wins_a_bonus():
    fused = fuse(STAGE1, CLIP, KEEP, 0.5, compat=True)
    assert torch.allclose(fused, torch.tensor([[0.4, 0.54], [0.5, 0.2]]))


@pytest.mark.parametrize("compat", [True, False])
def test_the_ends_are_one_stage_alone(compat):
    assert torch.equal(fuse(STAGE1, CLIP, KEEP, 0.0, compat=compat), STAGE1)
    alone = fuse(STAGE1, CLIP, KEEP, 1.0, compat=compat)
    assert torch.equal(alone, torch.tensor([[0.25, 0.81], [0.0, 0.0]]))
    assert torch.equal(alone, clip_alone(CLIP, KEEP))


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("compat", [True, False])
def test_no_valid_proposal(weight, compat):
    fused = fuse(STAGE1, CLIP[:0], torch.tensor([False, False]), weight, compat=compat)
    expected = STAGE1.pow(1 - weight) if compat else STAGE1
    assert torch.allclose(fused, torch.zeros(2, 2) if weight == 1 else expected)
    assert fuse(STAGE1[:0], CLIP[:0], KEEP[:0], weight, compat=compat).shape == (0, 2)


def test_nothing_is_changed_and_weights_are_checked():
    before = STAGE1.clone(), CLIP.clone()
    fuse(STAGE1, CLIP, KEEP, 0.3)
    assert torch.equal(STAGE1, before[0])
    assert torch.equal(CLIP, before[1])
    with pytest.raises(ValueError, match="fusion_weight must be"):
        fuse(STAGE1, CLIP, KEEP, 1.5)
