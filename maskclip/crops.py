"""Masked image regions as CLIP sees them: the tight box, stretched to a square."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from maskclip.box_sampling import (
    Boxes,
    Kernel,
    columns,
    flat_image,
    flat_masks,
    flat_pyramid,
    mix,
    pick_linear,
    pick_nearest,
    place_taps,
)

BACKGROUNDS = ("mean", "attenuate", "blur", "keep")  # what lies outside the mask (SPEC 3)
BLUR_SIZE = 16  # pixels to which blur reduces the image's longer side
PUBLISHED = Kernel(sharpness=-0.75, antialias=False)
KERNELS = {  # as Pillow names and has them: what CLIPs are trained on
    "bicubic": Kernel(sharpness=-0.5, antialias=True),
    "bilinear": Kernel(sharpness=None, antialias=True),
}

_MARGIN = 64  # a multiple of every halving, so that a trimmed image has the same pyramid


def region_boxes(mask_probs: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """(Q, h, w) -> keep (Q,) bool, boxes_xyxy (N, 4) int64 of those kept, exclusive right/bottom.

    A mask with no pixel above the threshold is not kept. Boxes are in pixels of the mask.
    """
    if mask_probs.ndim != 3:
        raise ValueError(f"mask_probs must be (Q, h, w), got {tuple(mask_probs.shape)}")
    masks = mask_probs if mask_probs.dtype == torch.bool else mask_probs > threshold
    h, w = masks.shape[1:]
    rows, across = masks.any(dim=2), masks.any(dim=1)  # (Q, h), (Q, w)
    keep = rows.any(dim=1)  # (Q,)
    rows, across = rows[keep].byte(), across[keep].byte()
    if not len(rows):
        return keep, torch.zeros(0, 4, dtype=torch.int64, device=masks.device)
    first = [across.argmax(dim=1), rows.argmax(dim=1)]
    last = [w - across.flip(1).argmax(dim=1), h - rows.flip(1).argmax(dim=1)]
    return keep, torch.stack(first + last, dim=1)


def widen_boxes(boxes_xyxy: Tensor, margin: float, size_hw: tuple[int, int]) -> Tensor:
    """(N, 4) int64 -> (N, 4) int64, each side moved out by a share of the box's, in the photo."""
    height, width = size_hw
    extra = (margin * (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2])).round().long()  # (N, 2)
    low = (boxes_xyxy[:, :2] - extra).clamp(min=0)
    high = torch.minimum(boxes_xyxy[:, 2:] + extra, boxes_xyxy.new_tensor([width, height]))
    return torch.cat([low, high], dim=1)


def crop_regions(
    image: np.ndarray | Tensor,
    masks: Tensor,
    boxes_xyxy: Tensor,
    side: int,
    fill_colour: Tensor,
    *,
    compat: bool = False,
    background: str = "mean",
    background_strength: float = 0.5,
    interpolation: str = "bicubic",
) -> tuple[Tensor, Tensor]:
    """(H, W, 3) uint8, (N, h, w) bool, (N, 4) -> crops (N, 3, S, S) 0-255, crop_masks (N, S, S).

    Boxes are in pixels of the masks, which may be smaller or larger than the image.
    ``compat`` is the published resampling (SPEC 2.3): the image at the masks' size, filled outside
    the mask, by bicubic without antialiasing, which overshoots 0-255; masks by floored nearest.
    Otherwise boxes are sampled from the image as it is, antialiased, by ``interpolation``, and
    what lies outside ``crop_masks`` is background exactly. ``background_strength`` is what
    ``attenuate`` leaves of the background's contrast to the fill colour.
    """
    device = masks.device
    image = torch.as_tensor(image, device=device)
    _check(image, masks, boxes_xyxy, background)
    if not len(masks):
        no_masks = torch.zeros(0, side, side, dtype=torch.bool, device=device)
        return torch.zeros(0, 3, side, side, device=device), no_masks
    fill_colour = torch.as_tensor(fill_colour, dtype=torch.float32, device=device)  # (3,)
    boxes_xyxy = boxes_xyxy.cpu()
    if compat and image.shape[:2] != masks.shape[1:]:
        image = _resize(image, masks.shape[1:])
    backdrop = _blur(image) if background == "blur" else fill_colour
    strength = {"attenuate": background_strength, "keep": 1.0}.get(background, 0.0)
    if image.shape[:2] == masks.shape[1:]:
        image, backdrop, masks, boxes_xyxy = _trim(image, backdrop, masks, boxes_xyxy)
    cut = _cut_published if compat else partial(_cut_sharp, kernel=KERNELS[interpolation])
    crops, crop_masks = cut(image.float(), backdrop, masks, boxes_xyxy, side, strength)
    return crops.permute(0, 3, 1, 2), crop_masks  # channels last in memory, as convolutions like it


def _check(image: Tensor, masks: Tensor, boxes_xyxy: Tensor, background: str) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != torch.uint8:
        got = f"{tuple(image.shape)} {image.dtype}"
        raise ValueError(f"image must be (H, W, 3) uint8 RGB, got {got}")
    if masks.ndim != 3 or masks.dtype != torch.bool:
        raise ValueError(f"masks must be (N, h, w) bool, got {tuple(masks.shape)} {masks.dtype}")
    if boxes_xyxy.shape != (len(masks), 4):
        expected, got = (len(masks), 4), tuple(boxes_xyxy.shape)
        raise ValueError(f"boxes_xyxy must be {expected} to match masks, got {got}")
    if background not in BACKGROUNDS:
        known = ", ".join(BACKGROUNDS)
        raise ValueError(f"background must be one of {known}, got {background!r}")


def _cut_published(
    image: Tensor, backdrop: Tensor, masks: Tensor, boxes_xyxy: Tensor, side: int, strength: float
) -> tuple[Tensor, Tensor]:
    """(h, w, 3), (h, w, 3) or (3,), (N, h, w), (N, 4) -> (N, S, S, 3), (N, S, S).

    Outside the masks is the backdrop; through a colour ``strength`` of the image shines.
    """
    size_hw = masks.shape[1:]
    pixels, mask_pixels = flat_image(image), flat_masks(masks)
    behind = flat_image(backdrop) if backdrop.ndim == 3 else backdrop
    mask_boxes = Boxes.of_masks(boxes_xyxy, size_hw)
    boxes = Boxes.at(boxes_xyxy, mask_boxes.stride, torch.zeros_like(mask_boxes.base))
    crops = image.new_empty(len(masks), side, side, 3)
    crop_masks = masks.new_empty(len(masks), side, side)
    for chunk in boxes.chunks():
        box, mask_box = boxes[chunk], mask_boxes[chunk]
        inside = columns(mask_pixels[:, None], mask_box)  # (R, K, 1)
        seen = columns(pixels, box)  # (R, K, 3)
        outside = columns(behind, box) if behind.ndim == 2 else _fade(behind, seen, strength)
        filled = torch.where(inside, seen, outside)  # (R, K, 3)
        zero = torch.zeros_like(box.width)
        taps = [place_taps(zero, end, side, PUBLISHED) for end in (box.width, box.height)]
        crops[chunk] = mix(filled, box, *taps)
        crop_masks[chunk] = pick_nearest(mask_pixels, mask_box, side)
    return crops, crop_masks


def _cut_sharp(
    image: Tensor,
    backdrop: Tensor,
    masks: Tensor,
    boxes_xyxy: Tensor,
    side: int,
    strength: float,
    *,
    kernel: Kernel,
) -> tuple[Tensor, Tensor]:
    """As ``_cut_published``, of an image (H, W, 3) at its own size."""
    (height, width), (h, w) = image.shape[:2], masks.shape[1:]
    exact_xyxy = boxes_xyxy * torch.tensor([width / w, height / h] * 2, dtype=torch.float64)
    sides = exact_xyxy[:, 2:] - exact_xyxy[:, :2]
    # As many halvings as leave S pixels along both axes; antialiasing does the rest
    level = (sides.amin(dim=1) / side).log2().floor().clamp(min=0).long()  # (N,)
    exact_xyxy = exact_xyxy / 2 ** level[:, None]
    outer_xyxy = torch.cat([exact_xyxy[:, :2].floor(), exact_xyxy[:, 2:].ceil()], dim=1).long()
    pixels, stride, offset = flat_pyramid(image, level)
    behind = flat_pyramid(backdrop, level)[0] if backdrop.ndim == 3 else backdrop
    boxes = Boxes.at(outer_xyxy, stride, offset)
    mask_pixels, mask_boxes = flat_masks(masks), Boxes.of_masks(boxes_xyxy, (h, w))
    crops = image.new_empty(len(masks), side, side, 3)
    crop_masks = masks.new_empty(len(masks), side, side)
    for chunk in boxes.chunks():
        box, extent = boxes[chunk], exact_xyxy[chunk] - outer_xyxy[chunk, :2].repeat(1, 2)
        taps = [place_taps(extent[:, i], extent[:, i + 2], side, kernel) for i in (0, 1)]
        inside = pick_linear(mask_pixels, mask_boxes[chunk], side)  # (n, S, S)
        seen = mix(columns(pixels, box), box, *taps)  # faded afterwards, not resampled twice
        if behind.ndim == 2:
            outside = mix(columns(behind, box), box, *taps)
        else:
            outside = _fade(behind, seen, strength)
        crops[chunk] = torch.where(inside[..., None], seen, outside).clamp_(0, 255)
        crop_masks[chunk] = inside
    return crops, crop_masks


def _resize(image: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(H, W, 3) uint8 -> (h, w, 3) uint8 as PIL's bilinear does it."""
    resized = Image.fromarray(image.cpu().numpy()).resize(size_hw[::-1], Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).to(image.device)


def _fade(colour: Tensor, seen: Tensor, strength: float) -> Tensor:
    """(3,), (..., 3) -> what is seen outside the mask where that is a colour."""
    return torch.lerp(colour, seen, strength) if strength else colour


def _blur(image: Tensor) -> Tensor:
    """(H, W, 3) uint8 -> (H, W, 3) float."""
    height, width = image.shape[:2]
    shrink = min(1, BLUR_SIZE / max(height, width))
    coarse_hw = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    coarse = F.interpolate(image.float().permute(2, 0, 1)[None], coarse_hw, mode="area")
    blurred = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    return blurred[0].permute(1, 2, 0).clamp(0, 255)


def _trim(
    image: Tensor, backdrop: Tensor, masks: Tensor, boxes_xyxy: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Leave away what no box is near to: training cuts one region at a time."""
    low = boxes_xyxy[:, :2].amin(dim=0) // _MARGIN * _MARGIN
    high = (boxes_xyxy[:, 2:].amax(dim=0) + _MARGIN - 1) // _MARGIN * _MARGIN
    (left, top), (right, bottom) = low.tolist(), high.tolist()
    if backdrop.ndim == 3:
        backdrop = backdrop[top:bottom, left:right]
    trimmed = image[top:bottom, left:right], backdrop, masks[:, top:bottom, left:right]
    return *trimmed, boxes_xyxy - low.repeat(2)
