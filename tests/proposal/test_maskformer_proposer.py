import dataclasses

import numpy as np
import pytest
import torch

from proposal.backbones import BackboneConfig
from proposal.maskformer import MaskFormer, MaskFormerConfig
from proposal.maskformer_proposer import MaskFormerProposer, pad, padded_size, resized_size
from proposal.proposals import propose_all

TINY = MaskFormerConfig(
    backbone=BackboneConfig(type="timm:mobilenetv2_050", pad_type="same"),
    hidden_dim=32,
    dim_feedforward=32,
    conv_dim=64,
    mask_dim=16,
    num_queries=5,
    nheads=2,
    dec_layers=2,
    embed_dim=6,
    short_side=64,
    max_size=128,
)


@pytest.fixture(scope="module")
def proposer() -> MaskFormerProposer:
    torch.manual_seed(0)
    return MaskFormerProposer(MaskFormer(TINY))


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("size_hw", "resized"),
    [
        ((480, 640), (512, 683)),  # 682.67
        ((640, 480), (683, 512)),
        ((100, 1000), (205, 2048)),  # 512 x 5120, cut to 2048: 204.8
        ((300, 300), (512, 512)),
        ((1, 5000), (1, 2048)),
    ],
)
def test_the_shortest_edge_rules(size_hw, resized):
    assert resized_size(size_hw, 512, 2048) == resized


def test_the_shortest_edge_rule_is_detectron2s():
    transform = pytest.importorskip("detectron2.data.transforms").ResizeShortestEdge
    for size_hw in [(426, 640), (427, 640), (333, 500), (1000, 201), (97, 3001)]:
        expected = transform.get_output_shape(*size_hw, 256, 1024)
        assert resized_size(size_hw, 256, 1024) == expected


def test_padding_is_zero_at_the_right_and_bottom():
    padded = pad(torch.ones(3, 30, 40), padded_size((30, 40), 32))
    assert padded.shape == (3, 32, 64)
    assert padded[:, :30, :40].min() == 1
    assert padded.sum() == 3 * 30 * 40


@pytest.mark.parametrize("size_hw", [(50, 70), (70, 50), (1, 1), (1, 5000), (64, 64)])
def test_masks_have_the_resized_photos_size(proposer, size_hw):
    proposals = proposer.propose(photo(*size_hw))
    assert proposals.mask_probs.shape == (5, *resized_size(size_hw, 64, 128))
    assert ((proposals.mask_probs >= 0) & (proposals.mask_probs <= 1)).all()
    assert ((proposals.scores >= 0) & (proposals.scores <= 1)).all()
    assert proposals.embeddings is None
    assert not proposals.mask_probs.requires_grad


@pytest.mark.parametrize(
    "sizes", [[], [(50, 70)], [(50, 70), (70, 50), (51, 70), (1, 9), (50, 70)]]
)
def test_a_photo_alone_or_in_a_batch_gives_the_same(proposer, sizes):
    images = [photo(*size_hw) for size_hw in sizes]
    together = propose_all(proposer, images, [None] * len(images))
    assert len(together) == len(images)
    for image, proposals in zip(images, together, strict=True):
        alone = proposer.propose(image)
        assert torch.allclose(alone.mask_probs, proposals.mask_probs, atol=1e-5)
        assert torch.allclose(alone.scores, proposals.scores, atol=1e-5)


def test_proposing_leaves_a_network_in_training_as_it_was(proposer):
    proposer.network.train()
    first, second = proposer.propose(photo(50, 70)), proposer.propose(photo(50, 70))
    assert proposer.network.training
    assert torch.equal(first.mask_probs, second.mask_probs)  # without dropout
    proposer.network.eval()


@pytest.mark.parametrize("names", [0, 1, 3])
def test_the_text_classifier_gives_embeddings_and_its_objectness(names):
    config = dataclasses.replace(TINY, classifier="text", training_names=names)
    network = MaskFormer(config)
    network.training_text_embeddings.copy_(torch.randn(names, 6))
    proposals = MaskFormerProposer(network).propose(photo(50, 70))
    assert proposals.embeddings.shape == (5, 6)
    assert torch.equal(proposals.no_object, network.no_object)
    if names == 0:
        assert (proposals.scores == 1).all()


def test_scores_worked_by_hand():
    network = MaskFormer(dataclasses.replace(TINY, classifier="text", training_names=1))
    with torch.no_grad():
        network.no_object.copy_(torch.tensor([1.0, 0, 0, 0, 0, 0]))
        network.training_text_embeddings[0, 1] = 2
    embeddings = torch.tensor([[1.0, 0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0, 0], [1.0, 1, 0, 0, 0, 0]])
    scores = MaskFormerProposer(network).objectness(embeddings)
    assert scores.tolist() == pytest.approx([0, 1, 0.5], abs=1e-4)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_anything_but_8_bit_rgb_is_refused(proposer, image):
    with pytest.raises(ValueError, match="uint8 RGB"):
        proposer.propose(image)


def test_both_scores_as_objectness_and_says_names():
    plain, both = (
        MaskFormer(dataclasses.replace(TINY, classifier=each)) for each in ("objectness", "both")
    )
    both.load_state_dict(plain.state_dict(), strict=False)
    expected = MaskFormerProposer(plain).propose(photo(50, 70))
    proposals = MaskFormerProposer(both).propose(photo(50, 70))
    assert torch.equal(proposals.scores, expected.scores)
    assert torch.equal(proposals.mask_probs, expected.mask_probs)
    assert proposals.embeddings.shape == (5, 6) and proposals.no_object is None
    assert proposals[:2].embeddings.shape == (2, 6)
