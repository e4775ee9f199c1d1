import pytest
import torch
from torch.nn import functional as F

from maskclip.clip_config import ClipConfig
from maskclip.clip_models import build_clip
from maskclip.pixel_prompt import PixelPrompt

VISION = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
TEXT = {"width": 16, "heads": 1, "layers": 1, "context_length": 24}
MODEL = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}


def build(**settings):
    torch.manual_seed(0)
    return build_clip(ClipConfig(name="tiny", model=MODEL, templates="single", **settings))


def test_the_pattern_is_added_inside_the_mask_alone():
    prompt = PixelPrompt(0.5, side=2)
    with torch.no_grad():
        prompt.pattern[:] = torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    masks = torch.tensor([[[True, False], [False, True]]])
    shown = prompt(torch.ones(1, 3, 2, 2), masks)  # (1, 3, 2, 2)
    assert shown[0, :, 0, 0].tolist() == [1.5, 2.0, 2.5]  # 1 + 0.5 * (1, 2, 3)
    assert (shown[0, :, 0, 1] == 1).all()


def test_a_new_prompt_changes_nothing_and_a_learned_one_does():
    plain, prompted = build(), build(pixel_prompt=1.0)
    prompted.load_state_dict(plain.state_dict(), strict=False)
    crops = torch.randint(0, 256, (3, 3, 32, 32)).float()
    crop_masks = torch.rand(3, 32, 32) > 0.5
    with torch.no_grad():
        before = plain.encode_regions(crops, crop_masks)
        assert torch.equal(prompted.encode_regions(crops, crop_masks), before)
        prompted.pixel_prompt.pattern.normal_()
        learned = prompted.encode_regions(crops, crop_masks)
        assert (learned - before).abs().max() > 1e-3
        outside = prompted.encode_regions(crops, torch.zeros_like(crop_masks))
        torch.testing.assert_close(outside, before)


def test_it_is_in_the_state_dict_and_gets_a_gradient():
    clip = build(pixel_prompt=0.3)
    assert clip.state_dict()["pixel_prompt.pattern"].shape == (3, 32, 32)
    crops, crop_masks = torch.rand(2, 3, 32, 32) * 255, torch.ones(2, 32, 32, dtype=torch.bool)
    F.normalize(clip.embed(crops, crop_masks), dim=-1)[:, 0].sum().backward()
    assert clip.pixel_prompt.pattern.grad.abs().max() > 0


@pytest.mark.parametrize("count", [0, 1])
def test_no_region_and_one(count):
    clip = build(pixel_prompt=0.3)
    crop_masks = torch.ones(count, 32, 32, dtype=torch.bool)
    assert clip.encode_regions(torch.rand(count, 3, 32, 32), crop_masks).shape == (count, 16)
