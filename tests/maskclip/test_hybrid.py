"""Hybrid towers: names that spell sizes, trunks that load strictly."""

import pytest
import timm
import torch
from open_clip.timm_model import TimmModel
from safetensors.torch import load_file, save_file

from maskclip.hybrid import HybridConfig, load_trunk, parse_hybrid, register_hybrid

TINY = HybridConfig(side=32, width=64, depth=1)


def build(config: HybridConfig) -> TimmModel:
    return TimmModel(register_hybrid(config), 16, config.side, pool="token", proj="linear")


@pytest.mark.parametrize(
    "config", [TINY, HybridConfig(), HybridConfig(192, 384, 2, stride=16, head=True)]
)
def test_a_name_spells_out_all_sizes(config):
    assert parse_hybrid(config.name) == config


def test_the_name_of_the_default_sizes():
    assert HybridConfig().name == "maskclip_nano_192_w256_d3_s32"


@pytest.mark.parametrize("name", ["maskclip_nano", "maskclip_nano_192_w256_d3_s8", "resnet50"])
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


@pytest.fixture
def stored() -> dict[str, torch.Tensor]:
    """What a file of trunk weights holds: a whole MobileNetV2, half precision."""
    torch.manual_seed(0)
    state = timm.create_model("mobilenetv2_100", pad_type="same").state_dict()
    return {key: value.half() for key, value in state.items() if "num_batches" not in key}


@pytest.mark.parametrize("head", [False, True])
def test_the_trunk_takes_every_weight_it_has(stored, tmp_path, head):
    save_file(stored | {"deeplab.logits.bias": torch.zeros(3)}, tmp_path / "trunk.safetensors")
    visual = build(HybridConfig(32, 64, 1, head=head))
    load_trunk(visual, tmp_path / "trunk.safetensors")
    trunk = visual.trunk.patch_embed.backbone.state_dict()
    weights = [key for key in trunk if "num_batches" not in key]
    assert ("conv_head.weight" in weights) == head
    assert all(torch.equal(trunk[key], stored[key].float()) for key in weights)


def test_a_missing_weight_of_the_trunk_is_named(stored, tmp_path):
    del stored["blocks.5.1.conv_pw.weight"]
    save_file(stored, tmp_path / "trunk.safetensors")
    with pytest.raises(ValueError, match=r"lacks blocks\.5\.1\.conv_pw\.weight"):
        load_trunk(build(TINY), tmp_path / "trunk.safetensors")


def test_a_weight_of_another_shape_is_named(stored, tmp_path):
    stored["bn1.weight"] = torch.zeros(3)
    save_file(stored, tmp_path / "trunk.safetensors")
    with pytest.raises(ValueError, match=r"bn1\.weight in .* must be \(32,\), got \(3,\)"):
        load_trunk(build(TINY), tmp_path / "trunk.safetensors")


def test_damaged_and_missing_files_are_said_so(tmp_path):
    (tmp_path / "trunk.safetensors").write_bytes(b"\x10")
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        load_trunk(build(TINY), tmp_path / "trunk.safetensors")
    with pytest.raises(FileNotFoundError, match="no trunk weights at"):
        load_trunk(build(TINY), tmp_path / "none.safetensors")


@torch.no_grad()
def test_the_pretrained_trunk_gives_the_features_of_the_whole_network(shared):
    path = shared / "weights" / "mobilenetv2_100_imagenet1k.safetensors"
    visual = build(HybridConfig(64, 64, 1, head=True)).eval()
    load_trunk(visual, path)
    whole = timm.create_model("mobilenetv2_100", pad_type="same", num_classes=1001).eval()
    whole.load_state_dict(load_file(path), strict=False)
    crops = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    features = visual.trunk.patch_embed.backbone(crops)
    torch.testing.assert_close(features, whole.forward_features(crops))
    assert features.abs().max() > 0.1
