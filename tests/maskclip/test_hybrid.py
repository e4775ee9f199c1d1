"""Hybrid towers: names that spell sizes, trunks that load strictly."""

import pytest
import timm
from open_clip.timm_model import TimmModel

from maskclip.hybrid import HybridConfig, parse_hybrid, register_hybrid

TINY = HybridConfig(side=32, width=64, depth=1)


def build(config: HybridConfig) -> TimmModel:
    return TimmModel(register_hybrid(config), 16, config.side, pool="token", proj="linear")


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        HybridConfig(),
        HybridConfig(192, 384, 2, stride=16, head=True),
        HybridConfig(trunk="lite1"),
        HybridConfig(head=True, trunk="lite2"),
    ],
)
def test_a_name_spells_out_all_sizes(config):
    assert parse_hybrid(config.name) == config


def test_the_name_of_the_default_sizes():
    assert HybridConfig().name == "maskclip_nano_192_w256_d3_s32"


@pytest.mark.parametrize(
    "name",
    [
        "maskclip_nano",
        "maskclip_nano_192_w256_d3_s8",
        "maskclip_nano_192_w256_d3_s32_lite9",
        "resnet50",
    ],
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="is not the name of a hybrid tower: write maskclip_nano_"):
        parse_hybrid(name)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"side": 100}, "multiple of 32 pixels, got 100"),
        ({"width": 100}, "multiple of 64, got 100"),
        ({"depth": 0}, "at least 1 block, got 0"),
        ({"stride": 8}, "16 or 32, got 8"),
        ({"trunk": "resnet"}, "trunk must be one of .*lite0.*, got 'resnet'"),
    ],
)
def test_impossible_sizes_are_refused(sizes, words):
    with pytest.raises(ValueError, match=words):
        HybridConfig(**sizes)


def test_timm_builds_a_registered_tower_of_the_sizes_asked_for():
    config = HybridConfig(side=64, width=128, depth=2, stride=16)
    model = timm.create_model(register_hybrid(config))
    assert model.pos_embed.shape == (1, 1 + 4 * 4, 128)
    assert len(model.blocks) == 2
    assert model.blocks[0].attn.num_heads == 2
    assert model.default_cfg["mean"] == (0.5, 0.5, 0.5)
    assert register_hybrid(config) == config.name  # twice is no harm


def test_nano_sized_tower_is_below_eight_million_parameters():
    tower = TimmModel(register_hybrid(HybridConfig()), 384, 192, pool="token", proj="linear")
    assert 4e6 < sum(value.numel() for value in tower.parameters()) < 8e6
