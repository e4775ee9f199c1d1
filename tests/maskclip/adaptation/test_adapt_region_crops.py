import numpy as np
import pytest
import torch
from PIL import Image

from maskclip.adaptation.config import DataConfig, PairSource
from maskclip.adaptation.pair_table import read_table
from maskclip.adaptation.region_crops import PhotoMemory, RegionCrops, coarsen, vary_box
from maskclip.clip_config import ClipConfig
from maskclip.clip_models import build_clip
from maskclip.crops import crop_regions, region_boxes
from maskclip.images import load_image

MASK = np.zeros((40, 60), bool)
MASK[10:20, 20:40] = True
BOX = (20, 10, 40, 20)


@pytest.mark.parametrize("area_range", [(0.5, 0.9), (1.2, 2.0)])
def test_varied_boxes_lie_in_the_box_or_hold_it(area_range):
    varied = np.random.default_rng(0)
    for _ in range(50):
        x0, y0, x1, y1 = vary_box(BOX, MASK, area_range, (1.0, 1.0), varied)
        inner, outer = ((x0, y0, x1, y1), BOX) if area_range[1] <= 1 else (BOX, (x0, y0, x1, y1))
        assert outer[0] <= inner[0] < inner[2] <= outer[2]
        assert outer[1] <= inner[1] < inner[3] <= outer[3]
        share = (x1 - x0) * (y1 - y0) / 200
        assert area_range[0] - 0.12 <= share <= area_range[1] + 0.12


def test_the_box_stays_where_nothing_varies():
    assert vary_box(BOX, MASK, (1.0, 1.0), (1.0, 1.0), np.random.default_rng(0)) == BOX


def test_training_crops_are_those_of_inference(colour_pairs, tiny_clip):
    table = read_table([PairSource(str(colour_pairs))])
    crops, crop_masks = RegionCrops(table, tiny_clip, DataConfig()).cut_many(np.array([3]), None)
    mask = torch.from_numpy(table.mask(3))[None]
    expected, expected_masks = crop_regions(
        load_image(table.photo(3)),
        mask,
        region_boxes(mask, 0.5)[1],
        32,
        tiny_clip.fill_colour,
        background="attenuate",
        background_strength=0.4,
    )
    torch.testing.assert_close(crops, expected)
    assert torch.equal(crop_masks, expected_masks)


def test_no_region_gives_no_crop(colour_pairs, tiny_clip):
    table = read_table([PairSource(str(colour_pairs))])
    crops, crop_masks = RegionCrops(table, tiny_clip, DataConfig()).cut_many(
        np.zeros(0, np.int64), None
    )
    assert crops.shape == (0, 3, 32, 32) and crop_masks.shape == (0, 32, 32)


def test_about_half_of_the_varied_crops_are_mirrored(colour_pairs, tiny_clip):
    table = read_table([PairSource(str(colour_pairs), area_range=(1.0, 1.0))])
    photo = np.full((32, 48, 3), 128, np.uint8)
    photo[4:16, 8:16], photo[4:16, 16:24] = 0, 255  # a square that is dark on the left
    Image.fromarray(photo).save(table.photo(0))
    crops = RegionCrops(table, tiny_clip, DataConfig(ratio_range=(1.0, 1.0)))
    varied = np.random.default_rng(0)
    plain, mask = crops.cut(0, None)
    drawn = [crops.cut(0, varied)[0] for _ in range(40)]
    mirrored = [torch.equal(crop, plain.flip(-1)) for crop in drawn]
    assert 10 < sum(mirrored) < 30 and mask.any()
    others = [crop for crop, flipped in zip(drawn, mirrored, strict=True) if not flipped]
    assert all(torch.equal(crop, plain) for crop in others)


def test_coarsened_crops_keep_their_mean_and_lose_their_detail():
    stripes = torch.zeros(3, 192, 192)
    stripes[:, :, ::2] = 200.0
    coarse = coarsen(stripes, np.random.default_rng(0))
    assert coarse.shape == stripes.shape
    assert coarse.mean().item() == pytest.approx(100, abs=2)
    assert coarse.std() < 0.5 * stripes.std()


def test_photos_are_forgotten_when_they_get_too_many(colour_pairs):
    photos = sorted((colour_pairs.parent / "photos").iterdir())
    memory = PhotoMemory(limit_bytes=2 * 32 * 48 * 3)
    first = memory.load(photos[0])
    assert memory.load(photos[0]) is first
    memory.load(photos[1])
    memory.load(photos[2])
    assert memory.load(photos[0]) is not first


@pytest.fixture
def tiny_clip():
    vision = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
    text = {"width": 16, "heads": 1, "layers": 1, "context_length": 24}
    model = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    return build_clip(
        ClipConfig(name="tiny", model=model, background="attenuate", background_strength=0.4)
    )
