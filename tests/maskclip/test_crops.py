"""Crops against a loop of torch's interpolate, and by hand."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from maskclip.crops import BACKGROUNDS, crop_regions, region_boxes, widen_boxes

FILL = torch.tensor([122.77, 116.75, 104.09])


def make_regions(count, size_hw, seed=0):
    """Ragged masks in boxes of every size, 1 pixel and the whole image included."""
    random = torch.Generator().manual_seed(seed)
    h, w = size_hw
    masks = torch.zeros(count, h, w, dtype=torch.bool)
    for index in range(count):
        y, x = (int(torch.randint(0, n, (), generator=random)) for n in size_hw)
        height, width = (int(torch.randint(1, n + 1, (), generator=random)) for n in size_hw)
        if index == 0:
            y, x, height, width = 0, 0, h, w
        if index == 1:
            height = width = 1
        part = masks[index, y : y + height, x : x + width]
        part[:] = torch.rand(part.shape, generator=random) > 0.3
        part[0, 0] = True
    image = torch.randint(0, 256, (h, w, 3), dtype=torch.uint8, generator=random)
    return image, masks, region_boxes(masks, 0.5)[1]


def cut_one_by_one(image, masks, boxes_xyxy, side):
    """The published way: every region by itself."""
    crops, crop_masks = [], []
    for mask, (x0, y0, x1, y1) in zip(masks, boxes_xyxy.tolist(), strict=True):
        filled = torch.where(mask[..., None], image.float(), FILL)[y0:y1, x0:x1].permute(2, 0, 1)
        size = {"size": (side, side)}
        crop = F.interpolate(filled[None], **size, mode="bicubic", align_corners=False)
        crops.append(crop[0])
        part = mask[None, None, y0:y1, x0:x1].float()
        crop_masks.append(F.interpolate(part, **size, mode="nearest")[0, 0] > 0)
    return torch.stack(crops), torch.stack(crop_masks)


@pytest.mark.parametrize("size_hw", [(1, 1), (30, 1), (5, 300), (97, 131), (260, 190)])
@pytest.mark.parametrize("side", [1, 16, 33, 224])
def test_compat_equals_torch_one_by_one(size_hw, side):
    image, masks, boxes_xyxy = make_regions(12, size_hw)
    expected, expected_masks = cut_one_by_one(image, masks, boxes_xyxy, side)
    crops, crop_masks = crop_regions(image, masks, boxes_xyxy, side, FILL, compat=True)
    assert crops.shape == (12, 3, side, side)
    assert (crops - expected).abs().max() < 1e-3
    assert torch.equal(crop_masks, expected_masks)


def test_compat_does_not_depend_on_chunks(monkeypatch):
    image, masks, boxes_xyxy = make_regions(9, (40, 50))
    whole = crop_regions(image, masks, boxes_xyxy, 24, FILL, compat=True)
    monkeypatch.setattr("maskclip.box_sampling.PIXELS_PER_CHUNK", 100)
    parts = crop_regions(image, masks, boxes_xyxy, 24, FILL, compat=True)
    assert torch.equal(whole[1], parts[1])
    assert torch.allclose(whole[0], parts[0], atol=1e-4)


@pytest.mark.parametrize("compat", [True, False])
@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("count", [0, 1, 5])
def test_zero_one_many(compat, background, count):
    image, masks, boxes_xyxy = make_regions(5, (20, 30))
    options = {"compat": compat, "background": background}
    crops, crop_masks = crop_regions(image, masks, boxes_xyxy, 8, FILL, **options)
    some, some_masks = crop_regions(image, masks[:count], boxes_xyxy[:count], 8, FILL, **options)
    assert some.shape == (count, 3, 8, 8)
    assert some_masks.shape == (count, 8, 8)
    assert torch.allclose(some, crops[:count], atol=1e-4)
    assert torch.equal(some_masks, crop_masks[:count])


@pytest.mark.parametrize("compat", [True, False])
def test_a_flat_region_by_hand(compat):
    """A 2 x 2 region of one colour in a corner of a black image: no black comes in."""
    image = torch.zeros(6, 6, 3, dtype=torch.uint8)
    image[4:, 4:] = 200
    masks = torch.zeros(1, 6, 6, dtype=torch.bool)
    masks[0, 4:, 4:] = True
    keep, boxes_xyxy = region_boxes(masks, 0.5)
    crops, crop_masks = crop_regions(image, masks, boxes_xyxy, 7, FILL, compat=compat)
    assert keep.tolist() == [True]
    assert boxes_xyxy.tolist() == [[4, 4, 6, 6]]
    assert crop_masks.all()
    assert torch.allclose(crops, torch.full((1, 3, 7, 7), 200.0), atol=1e-3)


def test_nearest_takes_the_floor():
    """2 columns onto 3: floor(0), floor(2/3), floor(4/3) = 0, 0, 1."""
    masks = torch.tensor([[[True, False]], [[False, True]]])
    boxes_xyxy = torch.tensor([[0, 0, 2, 1], [0, 0, 2, 1]])
    image = torch.zeros(1, 2, 3, dtype=torch.uint8)
    _, crop_masks = crop_regions(image, masks, boxes_xyxy, 3, FILL, compat=True)
    assert crop_masks[:, 0].tolist() == [[True, True, False], [False, False, True]]


def test_boxes_of_masks_without_pixels():
    mask_probs = torch.zeros(4, 5, 6)
    mask_probs[1, 2, 3] = 0.9
    mask_probs[2, 0, 0], mask_probs[2, 4, 5] = 0.6, 0.7
    mask_probs[3] = 0.5
    keep, boxes_xyxy = region_boxes(mask_probs, 0.5)
    assert keep.tolist() == [False, True, True, False]
    assert boxes_xyxy.tolist() == [[3, 2, 4, 3], [0, 0, 6, 5]]
    keep, boxes_xyxy = region_boxes(mask_probs[:0], 0.5)
    assert keep.shape == (0,)
    assert boxes_xyxy.shape == (0, 4)


def test_sharp_crops_come_from_the_photo_itself():
    """Stripes of one pixel that the masks' size cannot show are there in the crop."""
    image = torch.zeros(64, 64, 3, dtype=torch.uint8)
    image[:, ::2] = 255
    masks = torch.zeros(1, 16, 16, dtype=torch.bool)
    masks[0, :4, :4] = True
    crops, _ = crop_regions(image, masks, torch.tensor([[0, 0, 4, 4]]), 16, FILL)
    assert torch.equal(crops[0], image[:16, :16].permute(2, 0, 1).float())


def test_sharp_crops_are_antialiased():
    """Stripes finer than the crop become their mean, also far down the pyramid."""
    image = torch.zeros(320, 320, 3, dtype=torch.uint8)
    image[:, ::2] = 200
    masks = torch.ones(1, 10, 10, dtype=torch.bool)
    crops, crop_masks = crop_regions(image, masks, torch.tensor([[0, 0, 10, 10]]), 8, FILL)
    assert crop_masks.all()
    assert torch.allclose(crops, torch.full_like(crops, 100), atol=0.5)


def test_sharp_equals_pil_on_one_box():
    """Outside of pyramids (less than halved) it is PIL's antialiased bicubic."""
    image = torch.randint(100, 150, (30, 41, 3), dtype=torch.uint8)  # nothing to clip
    masks = torch.ones(1, 30, 41, dtype=torch.bool)
    crops, _ = crop_regions(image, masks, torch.tensor([[0, 0, 41, 30]]), 24, FILL)
    pil = Image.fromarray(image.numpy()).resize((24, 24), Image.Resampling.BICUBIC)
    expected = torch.from_numpy(np.array(pil)).permute(2, 0, 1).float()
    inner = (crops[0] - expected)[:, 2:-2, 2:-2]  # borders: PIL leaves taps out, here they repeat
    assert inner.abs().max() <= 1.1  # PIL rounds, twice


@pytest.mark.parametrize("compat", [True, False])
def test_backgrounds_by_hand(compat):
    """Left half region (colour 100), right half not (colour 200), crops as wide as the box."""
    image = torch.full((4, 4, 3), 100, dtype=torch.uint8)
    image[:, 2:] = 200
    masks = torch.zeros(1, 4, 4, dtype=torch.bool)
    masks[0, :, :2] = True
    masks[0, 0, 3] = True  # so that the box holds all
    fill, box = torch.tensor([50.0, 50.0, 50.0]), torch.tensor([[0, 0, 4, 4]])
    options = {"compat": compat, "background_strength": 0.2}
    seen = {
        name: crop_regions(image, masks, box, 4, fill, background=name, **options)[0][0, 0, 2]
        for name in BACKGROUNDS
    }
    for row in seen.values():
        assert torch.allclose(row[:2], torch.tensor([100.0, 100.0]), atol=1e-3)
    assert torch.allclose(seen["mean"][2:], torch.tensor([50.0, 50.0]), atol=1e-3)
    assert torch.allclose(seen["attenuate"][2:], torch.tensor([80.0, 80.0]), atol=1e-3)
    assert torch.allclose(seen["keep"][2:], torch.tensor([200.0, 200.0]), atol=1e-3)


def test_blur_leaves_no_detail():
    image = torch.zeros(128, 128, 3, dtype=torch.uint8)
    image[::2, ::2] = image[1::2, 1::2] = 200  # a chequerboard, grey from afar
    masks = torch.zeros(1, 128, 128, dtype=torch.bool)
    masks[0, 0, 0] = masks[0, 127, 127] = True
    crops, _ = crop_regions(
        image, masks, torch.tensor([[0, 0, 128, 128]]), 128, FILL, background="blur"
    )
    assert torch.allclose(crops[0, :, 1:-1, 1:-1], torch.tensor(100.0), atol=1)


def test_the_rest_of_the_image_does_not_matter():
    """Training cuts one region at a time, inference all of a photo: the same crop."""
    image, masks, boxes_xyxy = make_regions(8, (300, 280))
    together, _ = crop_regions(image, masks, boxes_xyxy, 16, FILL)
    for index in range(8):
        one = slice(index, index + 1)
        alone, _ = crop_regions(image, masks[one], boxes_xyxy[one], 16, FILL)
        assert torch.allclose(alone, together[one], atol=1e-3)


def test_arguments_are_checked_and_left_alone():
    image, masks, boxes_xyxy = make_regions(2, (9, 9))
    before = image.clone(), masks.clone(), boxes_xyxy.clone()
    crop_regions(image.numpy(), masks, boxes_xyxy, 4, FILL, background="blur")
    for now, then in zip((image, masks, boxes_xyxy), before, strict=True):
        assert torch.equal(now, then)
    with pytest.raises(ValueError, match="uint8 RGB"):
        crop_regions(image.float(), masks, boxes_xyxy, 4, FILL)
    with pytest.raises(ValueError, match="bool"):
        crop_regions(image, masks.float(), boxes_xyxy, 4, FILL)
    with pytest.raises(ValueError, match=r"boxes_xyxy must be \(2, 4\)"):
        crop_regions(image, masks, boxes_xyxy[:1], 4, FILL)
    with pytest.raises(ValueError, match="mean, attenuate, blur, keep"):
        crop_regions(image, masks, boxes_xyxy, 4, FILL, background="sky")
    with pytest.raises(ValueError, match="mask_probs must be"):
        region_boxes(masks[0], 0.5)


def test_widened_boxes_stay_in_the_photo():
    boxes_xyxy = torch.tensor([[10, 10, 30, 20], [0, 0, 8, 40], [5, 5, 6, 6]])
    widened = widen_boxes(boxes_xyxy, 0.25, (40, 32))  # 5 px and 2 or 3 px (round half to even)
    assert widened.tolist() == [[5, 8, 32, 22], [0, 0, 10, 40], [5, 5, 6, 6]]
    assert widen_boxes(boxes_xyxy, 0.0, (40, 32)).equal(boxes_xyxy)
    assert widen_boxes(boxes_xyxy[:0], 0.25, (40, 32)).shape == (0, 4)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("side", [20, 64])
def test_a_whole_photo_is_resized_as_pillow_does_it(interpolation, side):
    generator = np.random.default_rng(0)
    photo = generator.integers(60, 190, (31, 37, 3), dtype=np.uint8)  # nothing overshoots
    masks = torch.ones(1, 31, 37, dtype=torch.bool)
    crops, _ = crop_regions(
        photo,
        masks,
        torch.tensor([[0, 0, 37, 31]]),
        side,
        torch.zeros(3),
        interpolation=interpolation,
    )
    resample = Image.Resampling[interpolation.upper()]
    expected = np.array(Image.fromarray(photo).resize((side, side), resample))
    # Pillow has another rule at the border, and rounds after each of the two axes
    difference = np.abs(crops[0].permute(1, 2, 0).numpy() - expected)[5:-5, 5:-5]
    assert difference.max() < 2
