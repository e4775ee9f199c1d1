"""CLIPs alone, against open_clip's own classes with the same weights."""

import json

import open_clip
import pytest
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from torch import nn
from torch.nn import functional as F

from maskclip.checkpoint import load_clip
from maskclip.converting import convert_clip
from maskclip.published_clip import load_clip_file

VIT = {"layers": 2, "width": 64, "patch_size": 8, "image_size": 32}
RESNET = {"layers": [1, 2, 1, 1], "width": 16, "head_width": 64, "image_size": 64}
TEXT = {"layers": 1, "width": 64, "heads": 1, "context_length": 77}
TIMM = {"timm_model_name": "resnet10t", "image_size": 64, "timm_pool": "avg"}


def original(vision: dict, kind: type = open_clip.CLIP, *, quick_gelu: bool = True) -> nn.Module:
    torch.manual_seed(0)
    settings = CLIPVisionCfg(**vision), CLIPTextCfg(**TEXT)
    return kind(24, *settings, quick_gelu=quick_gelu).eval()


def crops_for(clip) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    crops = 255 * torch.rand(3, 3, clip.side, clip.side, generator=generator)
    return crops, torch.ones(3, clip.side, clip.side, dtype=torch.bool)


@pytest.mark.parametrize("vision", [VIT, VIT | {"width": 128, "patch_size": 4}, RESNET])
@pytest.mark.parametrize("kind", [open_clip.CLIP, open_clip.CustomTextCLIP])
@pytest.mark.parametrize("wrapped", [False, True])
@torch.no_grad()
def test_shapes_tell_the_towers_in_both_layouts(vision, kind, wrapped, tmp_path):
    model = original(vision, kind)
    state = model.state_dict()
    if wrapped:  # as mask-adapted CLIPs are published
        state = {"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 5}
    torch.save(state, tmp_path / "clip.pth")
    clip = load_clip_file(tmp_path / "clip.pth")
    crops, masks = crops_for(clip)
    expected = F.normalize(model.encode_image(clip.normalise(crops)), dim=-1)
    torch.testing.assert_close(clip.encode_regions(crops, masks), expected, atol=1e-6, rtol=0)
    tokens = open_clip.tokenize(["a photo of a cat."])
    texts = clip.text_encoder.encode_prompts(["a photo of a cat."])
    torch.testing.assert_close(texts, model.encode_text(tokens), atol=1e-5, rtol=0)
    assert clip.config.prompt_depth == 0


@pytest.mark.parametrize("places", [1, 16])
@torch.no_grad()
def test_mask_prompts_come_along(places, tmp_path):
    prompts = torch.randn(2, places, 64)
    state = {f"module.{k}": v for k, v in original(VIT).state_dict().items()}
    state["module.visual.mask_embedding"] = prompts
    torch.save({"state_dict": state}, tmp_path / "clip.pth")
    clip = load_clip_file(tmp_path / "clip.pth")
    assert torch.equal(clip.tower.prompts, prompts.expand(2, 16, 64))
    crops, masks = crops_for(clip)
    assert not torch.allclose(
        clip.encode_regions(crops, masks), clip.encode_regions(crops, ~masks), atol=1e-3
    )


def test_numbers_beside_the_weights_of_openai_are_no_weights(tmp_path):
    numbers = {"input_resolution": 32, "context_length": 77, "vocab_size": 49408}
    beside = {key: torch.tensor(value) for key, value in numbers.items()}
    torch.save({**original(VIT).state_dict(), **beside}, tmp_path / "clip.pt")
    assert load_clip_file(tmp_path / "clip.pt").side == 32


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_openais_archives_are_read_and_not_run(tmp_path):
    model = original(VIT)
    torch.jit.save(torch.jit.script(model), tmp_path / "openai.pt")
    clip = load_clip_file(tmp_path / "openai.pt")
    weight = model.visual.conv1.weight.detach()
    assert torch.equal(clip.tower.visual.conv1.weight.detach(), weight)


@torch.no_grad()
def test_the_activation_is_told_by_the_configuration(tmp_path):
    model = original(VIT, quick_gelu=False)
    torch.save(model.state_dict(), tmp_path / "clip.pth")
    (tmp_path / "c.json").write_text(json.dumps({"clip": {"quick_gelu": False}}))
    crops, masks = crops_for(load_clip_file(tmp_path / "clip.pth"))
    plain, quick = (
        load_clip_file(tmp_path / "clip.pth", config) for config in (tmp_path / "c.json", None)
    )
    expected = F.normalize(model.encode_image(plain.normalise(crops)), dim=-1)
    torch.testing.assert_close(plain.encode_regions(crops, masks), expected, atol=1e-6, rtol=0)
    assert not torch.allclose(quick.encode_regions(crops, masks), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s | {"visual.odd": torch.zeros(1)}, "the unexpected visual.odd"),
        (lambda s: {k: v for k, v in s.items() if k != "ln_final.bias"}, "misses ln_final.bias"),
        (lambda s: s | {"token_embedding.weight": torch.zeros(9, 64)}, "reads 9 kinds of tokens"),
        (lambda s: {k: v for k, v in s.items() if "visual" not in k}, "not in the original layout"),
        (lambda s: {f"clip_adapter.clip_model.{k}": v for k, v in s.items()}, "--from ovseg"),
        (lambda s: s | {"ln_final.weight": torch.full((64,), torch.nan)}, "NaN or infinity"),
    ],
)
def test_other_files_are_refused(change, said, tmp_path):
    torch.save(change(original(VIT).state_dict()), tmp_path / "clip.pth")
    with pytest.raises(ValueError, match=said):
        load_clip_file(tmp_path / "clip.pth")


def test_towers_of_other_libraries_are_refused_with_what_to_do(tmp_path):
    model = original(TIMM, open_clip.CustomTextCLIP)
    torch.save(model.state_dict(), tmp_path / "clip.pth")
    with pytest.raises(ValueError, match="load it as <open_clip model>/<file> instead"):
        load_clip_file(tmp_path / "clip.pth")


@pytest.mark.parametrize("half", [False, True])
@torch.no_grad()
def test_a_converted_clip_is_one_for_clip(half, tmp_path):
    state = original(VIT).state_dict() | {"visual.mask_embedding": torch.randn(1, 16, 64)}
    torch.save(state, tmp_path / "clip.pth")
    size = convert_clip(tmp_path / "clip.pth", tmp_path / "clip", half=half)
    assert size == (tmp_path / "clip" / "model.safetensors").stat().st_size
    config = json.loads((tmp_path / "clip" / "config.json").read_text())
    assert config["provenance"]["license"] == "CC-BY-NC-4.0"
    before, after = load_clip_file(tmp_path / "clip.pth"), load_clip(str(tmp_path / "clip"))
    crops, masks = crops_for(before)
    masks[:, :16] = False
    torch.testing.assert_close(
        after.encode_regions(crops, masks),
        before.encode_regions(crops, masks),
        atol=5e-3 if half else 1e-6,
        rtol=0,
    )
