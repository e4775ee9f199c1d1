import dataclasses

import pytest
import torch

from proposal.backbones import BackboneConfig
from proposal.maskformer import MaskFormer, MaskFormerConfig, class_logits
from proposal.query_grid import grid_points
from proposal.transformer_decoder import sine_positions

TINY = MaskFormerConfig(
    backbone=BackboneConfig(type="timm:mobilenetv2_050", pad_type="same"),
    hidden_dim=32,
    dim_feedforward=32,
    conv_dim=64,
    mask_dim=16,
    num_queries=9,
    nheads=2,
    dec_layers=2,
    embed_dim=6,
)


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("queries", [1, 9])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"classifier": "text"},
        {"classifier": "both"},
        {"query_init": "grid", "places": True, "soft_boxes": True, "enc_layers": 1},
    ],
)
def test_every_query_of_every_layer_gives_a_mask_and_an_answer(images, queries, more):
    network = MaskFormer(dataclasses.replace(TINY, num_queries=queries, **more)).train()
    output = network(torch.randn(images, 3, 64, 96))
    assert len(output.auxiliary) == 1
    for layer in (output, *output.auxiliary):
        assert layer.mask_logits.shape == (images, queries, 16, 24)
        if more.get("classifier") in ("text", "both"):
            assert layer.class_embeddings.shape == (images, queries, 6)
            assert layer.no_object is getattr(network, "no_object", None)
        if more.get("classifier") != "text":
            assert layer.object_logits.shape == (images, queries, 2)
    sum(layer.mask_logits.sum() for layer in (output, *output.auxiliary)).backward()
    assert network.query_embed.weight.grad.abs().sum() > 0


def test_evaluation_computes_the_last_layer_only():
    network = MaskFormer(TINY).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 32, 32)).auxiliary == ()


def test_equal_widths_need_no_projection():
    network = MaskFormer(dataclasses.replace(TINY, hidden_dim=160))  # mobilenetv2_050's last map
    assert network.backbone.channels[-1] == 160
    assert not list(network.input_proj.parameters())


def test_class_logits_are_a_hundred_cosines_with_no_object_last():
    embeddings, texts = torch.tensor([[3.0, 0.0]]), torch.tensor([[5.0, 0.0], [0.0, 0.1]])
    logits = class_logits(embeddings, texts, torch.tensor([-1.0, 0.0]))
    assert logits.tolist() == [[100.0, 0.0, -100.0]]
    assert class_logits(embeddings, texts, None).tolist() == [[100.0, 0.0]]


def test_both_is_objectness_with_one_head_more():
    """Equal weights up to the head, whose random numbers are drawn last; equal masks and scores."""
    networks = []
    for classifier in ("objectness", "both"):
        torch.manual_seed(0)
        networks.append(MaskFormer(dataclasses.replace(TINY, classifier=classifier)).eval())
    plain, both = (network.state_dict() for network in networks)
    assert {name.split(".")[0] for name in both.keys() - plain.keys()} == {"name_embed"}
    assert all(torch.equal(tensor, both[name]) for name, tensor in plain.items())
    with torch.no_grad():
        images = torch.randn(1, 3, 64, 96)
        first, second = (network(images) for network in networks)
    assert torch.equal(first.mask_logits, second.mask_logits)
    assert torch.equal(first.object_logits, second.object_logits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classifier": "words"}, "classifier must be one of"),
        ({"query_init": "zeros"}, "query_init must be one of"),
        ({"hidden_dim": 30, "nheads": 4}, "hidden_dim must be a multiple"),
    ],
)
def test_impossible_configs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **change)


def test_the_config_decides_where_queries_start():
    points = grid_points(9)
    codes = sine_positions(points[:, 0], points[:, 1], 32)
    grid = MaskFormer(dataclasses.replace(TINY, query_init="grid")).query_embed.weight
    assert torch.equal(grid, codes)
    assert not torch.allclose(MaskFormer(TINY).query_embed.weight, codes, atol=0.1)
