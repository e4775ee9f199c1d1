"""The configurations of the published trainings say what SPEC 1 says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from proposal.configuration import load_config
from proposal.maskformer import MaskFormer
from proposal.optimizer import build_optimizer, schedule_factor
from proposal.training_config import ProposalTraining

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PUBLISHED = {
    "proposal_r101c_vitb16": (2e-4, 0.1, 1e-4, 512, 512, 2048, "ViT-B-16/openai"),
    "proposal_swinb_vitl14": (6e-5, 1.0, 0.01, 640, 640, 2560, "ViT-L-14/openai"),
}


def config_of(name: str) -> ProposalTraining:
    return load_config(ProposalTraining, CONFIGS / f"{name}.yaml", [])


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_number_of_the_schedule(name):
    config = config_of(name)
    lr, factor, decay, crop, short, longest, clip = PUBLISHED[name]
    train, proposer, data = config.train, config.proposer, config.data
    assert (train.lr, train.backbone_lr_factor, train.weight_decay) == (lr, factor, decay)
    assert (train.batch_size, train.iterations, train.clip_norm) == (32, 120_000, 0.01)
    assert (train.warmup_iterations, train.warmup_factor, train.poly_power) == (1500, 1e-6, 0.9)
    assert train.ema_decay == 0 and train.precision == "float32"
    assert (proposer.short_side, proposer.max_size, data.sides) == (short, longest, (crop,))
    assert (proposer.num_queries, proposer.enc_layers, proposer.dec_layers) == (100, 0, 6)
    assert (proposer.hidden_dim, proposer.dim_feedforward, proposer.nheads) == (256, 2048, 8)
    assert (proposer.conv_dim, proposer.mask_dim, proposer.class_hidden_dim) == (256, 256, 1024)
    assert (proposer.dropout, proposer.classifier) == (0.1, "text")
    assert proposer.pixel_mean == (123.675, 116.28, 103.53)
    assert proposer.pixel_std == (58.395, 57.12, 57.375)
    weights = config.criterion.weights
    assert (weights.class_weight, weights.focal_weight, weights.dice_weight) == (1, 20, 1)
    assert (config.criterion.no_object_weight, config.criterion.mask_loss_stride) == (0.1, 1)
    assert config.criterion.points == 0
    augment = data.augment
    assert (augment.zoom, augment.zoom_step, augment.aspect) == ((0.5, 2.0), 0.1, 1)
    assert augment.flip and augment.colour and augment.min_area == 1 and augment.paste == 0
    assert data.clip == clip and data.sources[0].unlabelled == "background"


def test_trunks_are_the_published_ones():
    swin = config_of("proposal_swinb_vitl14").proposer.backbone
    assert (swin.embed_dim, swin.depths, swin.num_heads) == (128, (2, 2, 18, 2), (4, 8, 16, 32))
    assert (swin.window_size, swin.drop_path_rate) == (12, 0.3)
    resnet = config_of("proposal_r101c_vitb16").proposer.backbone
    assert (resnet.depth, resnet.freeze_at, resnet.res5_multi_grid) == (101, 2, (1, 2, 4))
    assert resnet.stride_in_1x1 is False and resnet.stem_out_channels == 128


def test_groups_of_the_optimizer():
    """By hand: what decays is convolutions and linear layers; the trunk learns a tenth as fast."""
    config = config_of("proposal_swint_vitb16")
    network = MaskFormer(config.proposer)
    groups = build_optimizer(network, config.train).param_groups
    decays = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    for name, parameter in network.named_parameters():
        plain = not ("norm" in name or "relative_position" in name or name.startswith("query_"))
        plain = plain and name != "no_object"
        assert decays[id(parameter)] == (0.01 if plain else 0.0), name
    resnet = config_of("proposal_r101c_vitb16")
    network = MaskFormer(resnet.proposer)
    rates = {
        id(p): g["lr"] for g in build_optimizer(network, resnet.train).param_groups
        for p in g["params"]
    }  # fmt: skip
    for name, parameter in network.named_parameters():
        frozen = name.startswith(("backbone.body.stem", "backbone.body.res2"))
        assert (id(parameter) not in rates) == frozen, name
        if not frozen:
            expected = 2e-5 if name.startswith("backbone.") else 2e-4
            assert rates[id(parameter)] == pytest.approx(expected), name


def test_the_schedule_by_hand():
    factor = schedule_factor(config_of("proposal_r101c_vitb16").train)
    assert factor(0) == pytest.approx(1e-6)
    halfway = 0.5 * (1 + 1e-6) * (1 - 750 / 120_000) ** 0.9
    assert factor(750) == pytest.approx(halfway)
    assert factor(60_000) == pytest.approx(0.5**0.9)
    assert factor(120_000) == 0


def test_the_small_one_samples_points():
    assert config_of("proposal_swint_vitb16").criterion.points == 12544
    assert config_of("proposal_nano").proposer.classifier == "objectness"


def test_the_head_that_names_fits_the_network_it_is_trained_on():
    before, after = config_of("proposal_nano_2_more"), config_of("proposal_nano_3_names")
    assert after.train.only == ("name_embed",)
    assert (after.proposer.classifier, after.proposer.embed_dim) == ("both", 384)
    assert replace(after.proposer, classifier="objectness", embed_dim=512) == before.proposer
