"""The presets at their full size, with random weights."""

import dataclasses
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from maskclip.published import build_preset, load_published
from maskclip.segmentor import Segmentor

ROOT = Path(__file__).resolve().parents[2]
RANDOM = runpy.run_path(str(ROOT / "tests" / "published_checkpoint.py"))
PARAMETERS = {
    "ovseg-r101c-vitb16": {
        "backbone": 42_518_208,
        "pixel_decoder": 7_540_480,
        "input_proj": 524_544,
        "encoder": 0,
        "decoder": 9_473_024,
        "query_embed": 25_600,
        "class_embed": 787_968,
        "mask_embed": 197_376,
        "no_object": 512,
        "tower": 86_192_640,
        "prompts": 451_584,
        "text": 63_428_096,
    },
    "ovseg-swinb-vitl14": {
        "backbone": 86_880_376,
        "pixel_decoder": 4_951_808,
        "input_proj": 262_400,
        "encoder": 0,
        "decoder": 9_473_024,
        "query_embed": 25_600,
        "class_embed": 1_050_368,
        "mask_embed": 197_376,
        "no_object": 768,
        "tower": 303_966_208,
        "prompts": 786_432,
        "text": 123_650_304,
    },
}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def count_parts(segmentor: Segmentor) -> dict[str, int]:
    network, clip = segmentor.proposer.network, segmentor.clip
    return {
        **{name: count(part) for name, part in network.named_children()},
        "no_object": network.no_object.numel(),
        "tower": count(clip.tower.visual),
        "prompts": clip.tower.prompts.numel(),
        "text": count(clip.text),
    }


def keep_some(segmentor: Segmentor, image: np.ndarray, regions: int) -> None:
    """Raise the threshold until so many proposals yield a crop: all 100 would take a minute."""
    best = segmentor.proposer.propose(image).mask_probs.amax((1, 2)).sort().values
    threshold = float(best[-regions - 1])
    segmentor.config = dataclasses.replace(segmentor.config, mask_threshold=threshold)


@pytest.mark.slow
@pytest.mark.parametrize("preset", PARAMETERS)
def test_presets_are_of_the_published_size_and_run(preset):
    torch.manual_seed(0)
    segmentor = build_preset(preset)
    assert count_parts(segmentor) == PARAMETERS[preset]
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    keep_some(segmentor, image, 3)
    result = segmentor.segment(image, ["cat", "dog"], return_regions=True)
    assert result.labels.shape == (96, 128)
    assert result.regions.mask_probs.shape[0] == 100
    assert int(result.regions.keep.sum()) == 3


@pytest.mark.slow
def test_a_full_size_checkpoint_is_converted_with_its_preset(tmp_path):
    torch.manual_seed(0)
    segmentor = build_preset("ovseg-r101c-vitb16")
    network, clip = segmentor.proposer.network, segmentor.clip
    state = RANDOM["published_state"](network, clip)
    torch.save({"model": state}, tmp_path / "ovseg.pth")
    loaded = load_published(tmp_path / "ovseg.pth", "ovseg-r101c-vitb16")
    assert loaded.config == segmentor.config
    assert loaded.proposer.network.config == network.config
    for ours, theirs in ((network, loaded.proposer.network), (clip, loaded.clip)):
        weights = theirs.state_dict()
        assert all(torch.equal(weights[k], v) for k, v in ours.state_dict().items())
    with pytest.raises(ValueError, match="backbone.type is swin, .* have resnet-deeplab"):
        load_published(tmp_path / "ovseg.pth", "ovseg-swinb-vitl14")
