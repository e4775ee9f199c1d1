"""Each open_clip family as classifier of regions: the same numbers as open_clip's own models."""

import json
import runpy
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from maskclip.checkpoint import load_clip
from maskclip.clip import MaskClip
from maskclip.clip_models import build_clip
from maskclip.segmentor import Segmentor
from proposal.superpixels import SuperpixelProposer

SMALL = runpy.run_path(str(Path(__file__).with_name("small_clips.py")))
FAMILIES, PROMPTABLE = SMALL["FAMILIES"], SMALL["PROMPTABLE"]
NAMES = ["cat", "large dog", "sofa|couch"]
SYNONYMS = ["cat", "large dog", "sofa", "couch"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("MASKCLIP_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module", params=FAMILIES)
def small(request, tmp_path_factory) -> tuple[str, Path, nn.Module]:
    """A family, a folder in open_clip's layout, the model in it as open_clip builds it."""
    return request.param, *SMALL["saved_clip"](request.param, tmp_path_factory.mktemp("clips"))


def random_regions(clip: MaskClip, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    crops = 255 * torch.rand(count, 3, clip.side, clip.side, generator=generator)
    return crops, torch.rand(count, clip.side, clip.side, generator=generator) > 0.999


@torch.no_grad()
def test_it_encodes_as_open_clip_does(small):
    _, folder, model = small
    clip = build_clip(str(folder))
    for count in (0, 1, 3):
        crops, masks = random_regions(clip, count)
        got = clip.encode_regions(crops, torch.ones_like(masks), batch_size=2)
        assert got.shape == (count, clip.embed_dim)
        if count:
            expected = F.normalize(model.encode_image(clip.normalise(crops)), dim=-1)
            torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert got.std(0).max() > 1e-5  # crops do differ
    prompts = [f"a photo of a {name}." for name in SYNONYMS]
    tokens = clip.text_encoder.tokenizer(prompts)  # (4, context), padded to the full length
    expected = F.normalize(model.encode_text(tokens), dim=-1)
    got = F.normalize(clip.text_encoder.encode_prompts(prompts), dim=-1)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert got.std(0).max() > 1e-3  # and so do names
    assert clip.logit_scale == pytest.approx(float(model.logit_scale.exp()))
    assert clip.config.mean == (0.5, 0.4, 0.3)
    assert clip.config.std == (0.2, 0.3, 0.25)


@torch.no_grad()
def test_it_comes_back_from_a_checkpoint_whatever_became_of_its_source(small, tmp_path):
    _, folder, _ = small
    source = tmp_path / "source"
    shutil.copytree(folder, source)
    _move_text_files(source, folder)
    clip = build_clip(str(source))
    segmentor = Segmentor(SuperpixelProposer(), clip, name="small", proposer_name="superpixels")
    segmentor.save_pretrained(tmp_path / "saved")
    shutil.rmtree(source)
    (tmp_path / "saved").rename(tmp_path / "moved")
    again = Segmentor.from_pretrained(tmp_path / "moved", overrides=["clip.background=keep"])
    again.save_pretrained(tmp_path / "twice")
    shutil.rmtree(tmp_path / "moved")
    twice = load_clip(str(tmp_path / "twice"))
    crops, masks = random_regions(clip, 2)
    for other in (again.clip, twice):
        assert other.text_fingerprint == clip.text_fingerprint
        assert torch.equal(other.encode_names(NAMES)[0], clip.encode_names(NAMES)[0])
        torch.testing.assert_close(
            other.encode_regions(crops, masks), clip.encode_regions(crops, masks)
        )


def _move_text_files(copy: Path, original: Path) -> None:
    path = copy / "open_clip_config.json"
    path.write_text(path.read_text().replace(str(original), str(copy)))


@torch.no_grad()
def test_mask_prompts_work_or_are_refused_in_one_sentence(small):
    family, folder, _ = small
    plain = build_clip(str(folder))
    config = replace(plain.config, prompt_depth=1)
    if family not in PROMPTABLE:
        with pytest.raises(ValueError, match="with a class token, got a .*set prompt_depth to 0"):
            build_clip(config)
        return
    prompted = build_clip(config)
    state = plain.state_dict()
    prompted.load_state_dict(state | {"tower.prompts": prompted.tower.prompts})
    crops, masks = random_regions(plain, 3)
    everything, nothing = torch.ones_like(masks), torch.zeros_like(masks)
    unprompted = plain.encode_regions(crops, masks)
    assert torch.equal(prompted.encode_regions(crops, everything), unprompted)
    hidden = prompted.encode_regions(crops, nothing)
    assert not torch.allclose(hidden, unprompted, atol=1e-6)
    torch.testing.assert_close(hidden, hidden[:1].expand_as(hidden))  # only prompts are seen


@pytest.mark.parametrize("family", ["openai vit", "siglip"])
@torch.no_grad()
def test_it_segments_a_photo(family, tmp_path):
    folder, model = SMALL["saved_clip"](family, tmp_path)
    segmentor = Segmentor(SuperpixelProposer(), build_clip(f"local-dir:{folder}"))
    photo = torch.randint(0, 255, (40, 50, 3), dtype=torch.uint8).numpy()
    assert segmentor.segment(photo, NAMES).labels.shape == (40, 50)
    names = ["cat", "large dog"]
    regions = segmentor.segment(photo, names, return_regions=True).regions
    cosines = regions.region_embeddings @ segmentor.clip.encode_names(names)[0].T  # (N, 2)
    # A sigmoid tower's bias is the same for all names, so that their softmax does not know it
    bias = 0.0 if model.logit_bias is None else float(model.logit_bias)
    expected = (model.logit_scale.exp() * cosines + bias).softmax(dim=1)
    torch.testing.assert_close(regions.class_probs, expected, atol=1e-5, rtol=0)


def test_every_family_of_the_registry_is_in_the_table():
    """By the kind of its towers: what open_clip adds must be looked at here."""
    import open_clip
    from open_clip.factory import get_model_config

    def kind(name: str) -> tuple:
        config = get_model_config(name)
        vision, text = config["vision_cfg"], config["text_cfg"]
        trunk = (vision.get("timm_model_name") or "").partition("_")[0]
        layers = trunk or type(vision.get("layers")).__name__
        settings = sorted(set(text) & {"hf_model_name", "pool_type", "embed_cls", "eos_id"})
        pooled = vision.get("pool_type"), vision.get("attentional_pool"), vision.get("timm_pool")
        return layers, pooled, tuple(settings), "multimodal_cfg" in config

    tried = {kind(name) for name, _, _ in FAMILIES.values()}
    strange = {name: kind(name) for name in open_clip.list_models() if kind(name) not in tried}
    assert not strange, json.dumps({name: str(value) for name, value in strange.items()}, indent=1)
