import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from proposal.backbones import BackboneConfig
from proposal.maskformer import MaskFormer, MaskFormerConfig, class_logits, published_key
from proposal.maskformer_proposer import MaskFormerProposer, pad, padded_size
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
        {"query_init": "grid", "places": True, "soft_boxes": True, "enc_layers": 1},
    ],
)
def test_every_query_of_every_layer_gives_a_mask_and_an_answer(images, queries, more):
    network = MaskFormer(dataclasses.replace(TINY, num_queries=queries, **more)).train()
    output = network(torch.randn(images, 3, 64, 96))
    assert len(output.auxiliary) == 1
    for layer in (output, *output.auxiliary):
        assert layer.mask_logits.shape == (images, queries, 16, 24)
        if more.get("classifier") == "text":
            assert layer.class_embeddings.shape == (images, queries, 6)
            assert layer.no_object is network.no_object
        else:
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


@pytest.mark.parametrize(
    ("published", "ours"),
    [
        ("backbone.res2.0.conv1.weight", "backbone.body.res2.0.conv1.weight"),
        ("sem_seg_head.pixel_decoder.adapter_1.norm.bias", "pixel_decoder.adapter_1.norm.bias"),
        ("sem_seg_head.predictor.transformer.decoder.norm.bias", "decoder.norm.bias"),
        ("sem_seg_head.predictor.query_embed.weight", "query_embed.weight"),
        ("clip_adapter.non_object_embedding", "no_object"),
        ("clip_adapter.pixel_mean", None),
        ("criterion.empty_weight", None),
    ],
)
def test_published_names_differ_in_their_beginning(published, ours):
    assert published_key(published) == ours


def load_reference(folder: Path) -> MaskFormer:
    """The network of a reference checkpoint, every weight of it used and none left at random."""
    theirs = json.loads((folder / "config.json").read_text())
    tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in theirs["backbone"].items()}
    known = {field.name for field in dataclasses.fields(MaskFormerConfig)} - {"backbone"}
    config = MaskFormerConfig(
        backbone=BackboneConfig(**tuples),
        classifier="text",
        embed_dim=theirs["clip"]["embed_dim"],
        **{key: value for key, value in theirs.items() if key in known and key[:5] != "pixel"},
    )
    network = MaskFormer(config).eval()
    stored = torch.load(folder / "reference.pth", weights_only=True)["model"]
    weights = {published_key(name): value.float() for name, value in stored.items()}
    weights.pop(None)
    weights["no_object"] = weights["no_object"][0]
    weights["training_text_embeddings"] = network.training_text_embeddings
    network.load_state_dict(weights, strict=True)
    return network


@pytest.mark.parametrize("kind", ["swin", "resnet-deeplab"])
def test_published_checkpoints_give_the_published_mask_logits(shared, kind):
    folder = shared / "reference" / kind
    network, expected = load_reference(folder), load_file(folder / "expected.safetensors")
    proposer = MaskFormerProposer(network)
    for photo in range(2):
        resized = expected[f"{photo}.resized_rgb"]
        image = np.array(Image.open(folder / f"image_{photo}.jpg").convert("RGB"))
        pixels = proposer.resize(image)
        mean, std = (
            torch.tensor(values)[:, None, None]
            for values in (network.config.pixel_mean, network.config.pixel_std)
        )
        assert torch.equal((pixels * std + mean).round(), resized.float())  # from the JPEG
        batch = pad(pixels, padded_size(pixels.shape[-2:], 32))[None]
        with torch.no_grad():
            logits = network(batch).mask_logits[0]
            noise = network(batch * (1 + 1e-6)).mask_logits[0] - logits
        differences = (logits - expected[f"{photo}.mask_logits"].float()).abs().amax((1, 2))  # (Q,)
        # One query of the ResNet's second photo magnifies rounding 100,000 times, the reference's
        # as well as ours (float64 differs from float32 by 0.17 there); all others must be equal.
        steady = noise.abs().amax((1, 2)) < 0.05
        assert steady.sum() >= 24
        assert differences[steady].max() < 0.05
        assert differences.median() < 0.01
