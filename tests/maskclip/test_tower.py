"""The mask-prompted tower: equal to the towers it wraps, blind outside the mask."""

import pytest
import torch
from open_clip.model import _build_vision_tower
from torch import nn

from maskclip.hybrid import HybridConfig, register_hybrid
from maskclip.tower import MaskPromptedTower, inside_patches

SIDE, DIMS = 64, 16
VIT = {"image_size": SIDE, "patch_size": 16, "width": 32, "layers": 3, "head_width": 16}
HYBRID = {"timm_pool": "token", "timm_proj": "linear", "image_size": SIDE}
PLAIN_VITS = {
    "openai": VIT,
    "no_ln_pre": VIT | {"no_ln_pre": True, "final_ln_after_pool": True},
    "sin_cos": VIT | {"pos_embed_type": "sin_cos_2d", "patch_dropout": 0.5},
    "mean": VIT | {"pool_type": "avg", "no_ln_pre": True, "final_ln_after_pool": True},
    "attentional": VIT | {"attentional_pool": True, "attn_pooler_heads": 2},
}
HYBRIDS = {
    "stride_32": HybridConfig(SIDE, width=64, depth=2),
    "stride_16": HybridConfig(SIDE, width=64, depth=2, stride=16),
    "head": HybridConfig(SIDE, width=64, depth=2, head=True),
}
TIMM_VIT = HYBRID | {"timm_model_name": "test_vit", "image_size": 160}
NO_TOKEN = {"timm_model_name": "test_vit2", "timm_pool": "avg", "image_size": 160}
ALL = [*PLAIN_VITS, *HYBRIDS, "timm"]


def build(name: str, quick_gelu: bool = False) -> nn.Module:
    """A tiny image tower with random weights, in evaluation mode."""
    torch.manual_seed(0)
    if name in PLAIN_VITS:
        config = PLAIN_VITS[name]
    elif name == "timm":
        config = TIMM_VIT
    else:
        config = HYBRID | {"timm_model_name": register_hybrid(HYBRIDS[name])}
    return _build_vision_tower(DIMS, dict(config), quick_gelu).eval()


def random_crops(visual: nn.Module, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    side = visual.image_size[0]
    crops = torch.randn(count, 3, side, side, generator=generator)
    masks = torch.zeros(count, side, side, dtype=torch.bool)
    masks[:, : side // 2, : side // 2] = True
    return crops, masks


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("count", [1, 5])
@torch.no_grad()
def test_all_inside_equals_the_plain_tower(name, depth, count):
    visual = build(name)
    tower = MaskPromptedTower(visual, depth).eval()
    crops, masks = random_crops(visual, count)
    found, plain = tower(crops, torch.ones_like(masks)), visual(crops)
    if name in HYBRIDS:  # their trunks' batch norms are folded, which changes the last bits
        torch.testing.assert_close(found, plain, atol=1e-4, rtol=1e-4)
    else:
        assert torch.equal(found, plain)


@torch.no_grad()
def test_quick_gelu_tower_equals_the_plain_one():
    visual = build("openai", quick_gelu=True)
    crops, masks = random_crops(visual, 2)
    tower = MaskPromptedTower(visual, 3).eval()
    assert torch.equal(tower(crops, torch.ones_like(masks)), visual(crops))
    assert not torch.equal(visual(crops), build("openai")(crops))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("depth", [0, 2])
@torch.no_grad()
def test_no_regions_give_no_embeddings(name, depth):
    tower = MaskPromptedTower(build(name), depth).eval()
    crops, masks = random_crops(tower.visual, 0)
    assert tower(crops, masks).shape == (0, DIMS)
    if name in HYBRIDS:
        assert tower.forward_features(tower.trunk_features(crops), masks).shape == (0, DIMS)


@pytest.mark.parametrize("name", [*PLAIN_VITS, "timm"])
@torch.no_grad()
def test_pixels_of_outside_patches_do_not_matter(name):
    visual = build(name)
    tower = MaskPromptedTower(visual, 1).eval()
    crops, masks = random_crops(visual, 2)
    changed = torch.where(masks[:, None], crops, torch.randn_like(crops))
    assert torch.equal(tower(changed, masks), tower(crops, masks))
    assert (visual(changed) - visual(crops)).abs().max() > 1e-3


@pytest.mark.parametrize("name", [*PLAIN_VITS, *HYBRIDS, "timm"])
@torch.no_grad()
def test_a_crop_is_encoded_alike_alone_and_among_others(name):
    visual = build(name)
    tower = MaskPromptedTower(visual, 2).eval()
    crops, masks = random_crops(visual, 4)
    alone = torch.cat([tower(crops[n : n + 1], masks[n : n + 1]) for n in range(4)])
    torch.testing.assert_close(tower(crops, masks), alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_prompts_replace_outside_patches_before_and_after_blocks():
    """The rule of SPEC 3, token by token."""
    visual = build("openai")
    tower = MaskPromptedTower(visual, 2).eval()
    crops, masks = random_crops(visual, 1)
    patches = visual.conv1(crops).flatten(2).mT[0]  # (P, E)
    outside = [p for p in range(16) if p not in (0, 1, 4, 5)]  # the mask is the top left quarter
    patches[outside] = tower.prompts[0, outside]
    tokens = torch.cat([visual.class_embedding[None], patches])
    tokens = visual.ln_pre(tokens + visual.positional_embedding)[None]
    tokens = visual.transformer.resblocks[0](tokens)
    for patch in outside:
        tokens[0, 1 + patch] = tower.prompts[1, patch]
    for block in visual.transformer.resblocks[1:]:
        tokens = block(tokens)
    expected = visual.ln_post(tokens[:, 0]) @ visual.proj
    torch.testing.assert_close(tower(crops, masks), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", HYBRIDS)
@pytest.mark.parametrize("depth", [0, 2])
@torch.no_grad()
def test_cached_trunk_features_give_the_same_embeddings(name, depth):
    visual = build(name)
    tower = MaskPromptedTower(visual, depth).eval()
    crops, masks = random_crops(visual, 3)
    features = tower.trunk_features(crops)
    cells = SIDE // HYBRIDS[name].stride
    assert features.shape == (3, 1280 if HYBRIDS[name].head else 320, cells, cells)
    assert torch.equal(tower.forward_features(features, masks), tower(crops, masks))


@pytest.mark.parametrize("name", ["openai", "timm"])
def test_only_hybrids_have_trunk_features(name):
    tower = MaskPromptedTower(build(name), 1)
    with pytest.raises(ValueError, match="only hybrid towers"):
        tower.trunk_features(torch.zeros(1, 3, SIDE, SIDE))


def test_inside_means_any_pixel_of_the_cell():
    mask = torch.zeros(1, 5, 4, dtype=torch.bool)  # its fifth row belongs to no cell
    mask[0, 0, 3] = mask[0, 4, 0] = True
    inside = inside_patches(mask, (2, 2), (2, 2))
    assert inside.shape == (1, 4, 1)
    assert inside.flatten().tolist() == [False, True, False, False]


def test_masks_smaller_than_the_grid_are_refused():
    with pytest.raises(ValueError, match=r"at least \(N, 4, 4\).*\(1, 2, 4\)"):
        inside_patches(torch.ones(1, 2, 4, dtype=torch.bool), (2, 2), (2, 2))


def test_gradients_reach_every_prompt_outside_and_none_inside():
    visual = build("openai").requires_grad_(False)
    tower = MaskPromptedTower(visual, 3)
    assert [name for name, value in tower.named_parameters() if value.requires_grad] == ["prompts"]
    crops, masks = random_crops(visual, 2)
    tower(crops, masks).sum().backward()
    moved = tower.prompts.grad.abs().sum(-1) > 0  # (L, P)
    inside = [0, 1, 4, 5]
    assert not moved[:, inside].any()
    assert moved.sum() == 3 * 12


def test_batch_norms_keep_their_statistics_in_training():
    visual = build("stride_32")
    tower = MaskPromptedTower(visual, 1).train()
    norm = visual.trunk.patch_embed.backbone.bn1
    before = norm.running_mean.clone()
    tower(*random_crops(visual, 2))
    assert tower.training
    assert torch.equal(norm.running_mean, before)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (NO_TOKEN, "with a class token, got a VisionTransformer without one"),
        (
            {"timm_model_name": "test_convnext", "image_size": SIDE},
            "with a class token, got a ConvNeXt: set",
        ),
        ({"layers": [1, 1, 1, 1], "width": 16, "image_size": 64}, "got a ModifiedResNet: set"),
    ],
)
def test_towers_without_a_class_token_take_no_prompts(config, words):
    visual = _build_vision_tower(DIMS, config).eval()
    with pytest.raises(ValueError, match=words):
        MaskPromptedTower(visual, 1)
    crops, masks = random_crops(visual, 1) if hasattr(visual, "trunk") else (None, None)
    if crops is None:
        crops, masks = torch.randn(1, 3, SIDE, SIDE), torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    assert torch.equal(MaskPromptedTower(visual, 0).eval()(crops, masks), visual(crops))


@pytest.mark.parametrize(("depth", "words"), [(4, "exceeds the 3 blocks"), (-1, "0 .* or more")])
def test_impossible_depths_are_refused(depth, words):
    with pytest.raises(ValueError, match=words):
        MaskPromptedTower(build("openai"), depth)
