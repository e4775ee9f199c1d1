"""Masked image regions as CLIP sees them: the tight box, stretched to a square."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

BACKGROUNDS = ("mean", "attenuate", "blur", "keep")  # what lies outside the mask (SPEC 3)
_PIXELS_PER_CHUNK = 3_000_000  # box pixels gathered at once: bounds memory at about 100 MiB


@dataclass(frozen=True)
class _Taps:
    """Which pixels of its box an output pixel mixes, along one axis. n: regions, t: taps."""

    index: Tensor  # (n, S, t) int64, pixels counted from the box's first
    weight: Tensor  # (n, S, t) float, summing to 1


@dataclass(frozen=True)
class _Boxes:
    """Where n boxes lie in a flat list of pixels (column after column, as x * stride + y)."""

    base: Tensor  # (n,) int64, place of the first pixel
    stride: Tensor  # (n,) int64, places from one column to the next
    width: Tensor  # (n,) int64
    height: Tensor  # (n,) int64

    def __getitem__(self, chunk: Tensor) -> _Boxes:
        return _Boxes(*(part[chunk] for part in vars(self).values()))


def region_boxes(mask_probs: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """(Q, h, w) -> keep (Q,) bool, boxes_xyxy (N, 4) int64 of those kept, exclusive right/bottom.

    A mask with no pixel above the threshold is not kept. Boxes are in pixels of the mask.
    """
    if mask_probs.ndim != 3:
        raise ValueError(f"mask_probs must be (Q, h, w), got {tuple(mask_probs.shape)}")
    masks = mask_probs if mask_probs.dtype == torch.bool else mask_probs > threshold
    h, w = masks.shape[1:]
    rows, columns = masks.any(dim=2).byte(), masks.any(dim=1).byte()  # (Q, h), (Q, w)
    keep = masks.flatten(1).any(dim=1)  # (Q,)
    rows, columns = rows[keep], columns[keep]
    if not len(rows):
        return keep, torch.zeros(0, 4, dtype=torch.int64, device=masks.device)
    first = [columns.argmax(dim=1), rows.argmax(dim=1)]
    last = [w - columns.flip(1).argmax(dim=1), h - rows.flip(1).argmax(dim=1)]
    return keep, torch.stack(first + last, dim=1)


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
) -> tuple[Tensor, Tensor]:
    """(H, W, 3) uint8, (N, h, w) bool, (N, 4) -> crops (N, 3, S, S) 0-255, crop_masks (N, S, S).

    Boxes are in pixels of the masks, which may be smaller or larger than the image.
    ``compat`` is the published resampling (SPEC 2.3): the image at the masks' size, filled outside
    the mask, by bicubic without antialiasing, which overshoots 0-255; masks by floored nearest.
    Otherwise boxes are sampled from the image as it is, antialiased, and what lies outside
    ``crop_masks`` is background exactly. ``background_strength`` is what ``attenuate`` multiplies
    the background with.
    """
    image = torch.as_tensor(image, device=masks.device)
    _check(image, masks, boxes_xyxy, background)
    if not len(masks):
        return (
            torch.zeros(0, 3, side, side, device=masks.device),
            torch.zeros(0, side, side, dtype=torch.bool, device=masks.device),
        )
    fill_colour = torch.as_tensor(fill_colour, dtype=torch.float32, device=masks.device)  # (3,)
    boxes_xyxy = boxes_xyxy.to(masks.device)
    if compat and image.shape[:2] != masks.shape[1:]:
        image = _resize(image, masks.shape[1:])
    image = image.float()
    backdrop = _backdrop(image, background, fill_colour, background_strength)
    crop_all = _crop_compat if compat else _crop_sharp
    crops, crop_masks = crop_all(image, backdrop, masks, boxes_xyxy, side)
    return crops.permute(0, 3, 1, 2), crop_masks  # channels-last in memory, as convolutions like it


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


def _crop_compat(
    image: Tensor, backdrop: Tensor, masks: Tensor, boxes_xyxy: Tensor, side: int
) -> tuple[Tensor, Tensor]:
    """(h, w, 3), (h, w, 3) or (3,), (N, h, w), (N, 4) -> (N, S, S, 3), (N, S, S)."""
    pixels, mask_pixels = _flat_image(image), _flat_masks(masks)
    behind = _flat_image(backdrop) if backdrop.ndim == 3 else backdrop
    boxes = _boxes_at(boxes_xyxy, masks.shape[1], 0)
    mask_boxes = _boxes_of_masks(boxes_xyxy, masks.shape)
    crops = image.new_empty(len(masks), side, side, 3)
    crop_masks = masks.new_empty(len(masks), side, side)
    for chunk in _chunks(boxes):
        box, mask_box = boxes[chunk], mask_boxes[chunk]
        inside = _columns(mask_pixels, mask_box)[..., None]  # (R, K, 1)
        outside = _columns(behind, box) if behind.ndim == 2 else behind
        filled = torch.where(inside, _columns(pixels, box), outside)  # (R, K, 3)
        extents = [(torch.zeros_like(box.width), length) for length in (box.width, box.height)]
        taps = [_taps(*e, side, radius=2, sharpness=-0.75, antialias=False) for e in extents]
        crops[chunk] = _mix(filled, box.width, *taps)
        crop_masks[chunk] = _pick_nearest(mask_pixels, mask_box, side)
    return crops, crop_masks


def _crop_sharp(
    image: Tensor, backdrop: Tensor, masks: Tensor, boxes_xyxy: Tensor, side: int
) -> tuple[Tensor, Tensor]:
    """(H, W, 3), (H, W, 3) or (3,), (N, h, w), (N, 4) -> (N, S, S, 3), (N, S, S)."""
    (height, width), (h, w) = image.shape[:2], masks.shape[1:]
    scale = torch.tensor([width / w, height / h] * 2, dtype=torch.float64, device=masks.device)
    exact_xyxy = boxes_xyxy * scale  # (N, 4), in pixels of the image
    sides = exact_xyxy[:, 2:] - exact_xyxy[:, :2]
    level = (sides.amin(dim=1) / side).log2().floor().clamp(min=0).long()  # (N,)
    exact_xyxy = exact_xyxy / 2 ** level[:, None]
    pixels, offsets, heights = _flat_pyramid(image, level)
    outer_xyxy = torch.cat([exact_xyxy[:, :2].floor(), exact_xyxy[:, 2:].ceil()], dim=1).long()
    boxes = _boxes_at(outer_xyxy, heights, offsets)
    mask_pixels, mask_boxes = _flat_masks(masks), _boxes_of_masks(boxes_xyxy, masks.shape)
    behind = _flat_pyramid(backdrop, level)[0] if backdrop.ndim == 3 else backdrop
    crops = image.new_empty(len(masks), side, side, 3)
    crop_masks = masks.new_empty(len(masks), side, side)
    for chunk in _chunks(boxes):
        box, exact = boxes[chunk], exact_xyxy[chunk] - outer_xyxy[chunk, :2].repeat(1, 2)
        extents = [(exact[:, axis], exact[:, axis + 2]) for axis in (0, 1)]
        taps = [_taps(*e, side, radius=2, sharpness=-0.5, antialias=True) for e in extents]
        sampled = _mix(_columns(pixels, box), box.width, *taps).clamp_(0, 255)
        inside = _pick_linear(mask_pixels, mask_boxes[chunk], side)
        if behind.ndim == 2:
            outside = _mix(_columns(behind, box), box.width, *taps).clamp_(0, 255)
        else:
            outside = behind
        crops[chunk] = torch.where(inside[..., None], sampled, outside)
        crop_masks[chunk] = inside
    return crops, crop_masks


def _resize(image: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(H, W, 3) uint8 -> (h, w, 3) uint8 as PIL's bilinear does it."""
    resized = Image.fromarray(image.cpu().numpy()).resize(size_hw[::-1], Image.BILINEAR)
    return torch.from_numpy(np.array(resized)).to(image.device)


def _backdrop(image: Tensor, background: str, fill_colour: Tensor, strength: float) -> Tensor:
    """(H, W, 3) -> what is seen outside the mask: (H, W, 3), or the colour (3,)."""
    if background == "mean":
        return fill_colour
    if background == "attenuate":
        return strength * image
    if background == "keep":
        return image
    height, width = image.shape[:2]
    coarse_hw = (max(1, round(height / max(height, width) * 16)),
                 max(1, round(width / max(height, width) * 16)))  # fmt: skip
    coarse = F.interpolate(image.permute(2, 0, 1)[None], coarse_hw, mode="area")
    blurred = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    return blurred[0].permute(1, 2, 0).clamp(0, 255)


def _flat_image(image: Tensor) -> Tensor:
    """(h, w, 3) -> (w * h, 3), column after column."""
    return image.transpose(0, 1).reshape(-1, 3)


def _flat_masks(masks: Tensor) -> Tensor:
    """(N, h, w) -> (N * w * h,), column after column."""
    return masks.transpose(1, 2).flatten()


def _flat_pyramid(image: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(H, W, 3), (N,) -> pixels of all levels (any, 3); each region's offset, column height (N,).

    Level l is the image, halved l times by averaging 2 x 2 pixels.
    """
    planes, levels = image.permute(2, 0, 1)[None], []
    for _ in range(int(level.max())):
        levels.append(planes[0].permute(1, 2, 0))
        planes = F.avg_pool2d(planes, 2, ceil_mode=True)
    levels.append(planes[0].permute(1, 2, 0))
    heights = torch.tensor([len(plane) for plane in levels], device=level.device)
    sizes = torch.tensor([plane.shape[0] * plane.shape[1] for plane in levels])
    offsets = (sizes.cumsum(0) - sizes).to(level.device)
    return torch.cat([_flat_image(plane) for plane in levels]), offsets[level], heights[level]


def _boxes_at(boxes_xyxy: Tensor, stride: Tensor | int, offset: Tensor | int) -> _Boxes:
    """(N, 4) boxes in images whose pixels start at ``offset``, ``stride`` to a column."""
    x0, y0, x1, y1 = boxes_xyxy.unbind(dim=1)
    stride = torch.as_tensor(stride, device=x0.device).expand_as(x0)
    return _Boxes(offset + x0 * stride + y0, stride, x1 - x0, y1 - y0)


def _boxes_of_masks(boxes_xyxy: Tensor, shape: tuple[int, int, int]) -> _Boxes:
    """(N, 4) boxes, each in its own mask of (N, h, w)."""
    offset = torch.arange(shape[0], device=boxes_xyxy.device) * (shape[1] * shape[2])
    return _boxes_at(boxes_xyxy, shape[1], offset)


def _chunks(boxes: _Boxes) -> list[Tensor]:
    """N boxes -> index tensors of boxes of like height, each chunk of bounded area."""
    height, order = boxes.height.sort()
    chunk_of = (boxes.width[order] * height).cumsum(0) // _PIXELS_PER_CHUNK
    counts = torch.unique_consecutive(chunk_of, return_counts=True)[1]
    return list(order.split(counts.tolist()))


def _columns(pixels: Tensor, boxes: _Boxes) -> Tensor:
    """(any[, c]) pixels -> (R, K[, c]): the R columns of n boxes one below the other.

    K is the height of the highest box; lower boxes' columns run on into what follows.
    """
    depth, tall = pixels[0].numel(), int(boxes.height.max())
    box_of = torch.repeat_interleave(boxes.width)  # (R,)
    x = torch.arange(len(box_of), device=box_of.device) - _first_column(boxes.width)[box_of]
    starts = boxes.base[box_of] + x * boxes.stride[box_of]  # (R,)
    room = int(starts.max()) + tall - len(pixels)
    if room > 0:
        pixels = torch.cat([pixels, pixels.new_zeros(room, *pixels.shape[1:])])
    # Windows of the flat list overlap; only those asked for are copied
    windows = pixels.flatten().unfold(0, tall * depth, depth)  # (any, K * c)
    return windows.index_select(0, starts).view(len(starts), tall, *pixels.shape[1:])


def _first_column(width: Tensor) -> Tensor:
    """(n,) -> (n,): where each box's columns start in what ``_columns`` returns."""
    return width.cumsum(0) - width


def _taps(
    start: Tensor, end: Tensor, side: int, *, radius: int, sharpness: float, antialias: bool
) -> _Taps:
    """(n,), (n,) extents of boxes along one axis -> the taps of S output pixels.

    Keys' cubic kernel with a = ``sharpness``; ``antialias`` widens it where pixels are skipped.
    """
    last = end.ceil().long()[:, None, None] - 1
    scale = ((end - start).float() / side)[:, None]  # single precision, as torch has it
    steps = torch.arange(side, dtype=torch.float64, device=end.device) + 0.5
    centre = (scale * steps + (start[:, None] - 0.5)).float()  # (n, S), rounded once as by an FMA
    stretch = scale.clamp(min=1) if antialias else torch.ones_like(scale)
    count = int((2 * radius * stretch.max()).ceil())
    first = (centre - radius * stretch).floor() + 1
    place = first[..., None] + torch.arange(count, device=end.device)  # (n, S, t)
    weight = _cubic((place - centre[..., None]) / stretch[..., None], sharpness)
    weight = weight / weight.sum(dim=-1, keepdim=True)
    return _Taps(place.long().clamp(min=0).minimum(last), weight)


def _cubic(distance: Tensor, a: float) -> Tensor:
    """Keys' cubic convolution kernel."""
    d = distance.abs()
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = (((d - 5) * d + 8) * d - 4) * a
    return torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))


def _mix(columns: Tensor, width: Tensor, taps_x: _Taps, taps_y: _Taps) -> Tensor:
    """(R, K, c) columns of n boxes, their widths (n,), taps -> (n, S, S, c)."""
    n, side, _ = taps_x.index.shape
    tall, depth = columns.shape[1:]
    table = columns.view(len(columns), tall * depth)
    mixed = _weighted_rows(table, taps_x, _first_column(width))  # (n * S, K * c)
    mixed = mixed.view(n, side, tall, depth).transpose(1, 2)  # (n, K, S, c)
    table = mixed.reshape(n * tall, side * depth)
    first_row = torch.arange(n, device=width.device) * tall
    return _weighted_rows(table, taps_y, first_row).view(n, side, side, depth)


def _weighted_rows(table: Tensor, taps: _Taps, first: Tensor) -> Tensor:
    """(R, K), taps counted from each region's first row (n,) -> (n * S, K) weighted sums."""
    rows = (taps.index + first[:, None, None]).flatten(0, 1)  # (n * S, t)
    weight = taps.weight.flatten(0, 1).to(table.dtype)
    return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weight)


def _pick_nearest(mask_pixels: Tensor, boxes: _Boxes, side: int) -> Tensor:
    """(any,) bool -> (n, S, S) bool by torch's legacy ``nearest``: the floor, no half pixel."""
    steps = torch.arange(side, device=mask_pixels.device)
    x, y = [
        ((length.float() / side)[:, None] * steps).long().minimum(length[:, None] - 1)
        for length in (boxes.width, boxes.height)
    ]  # (n, S)
    return _pick(mask_pixels, boxes, x, y)


def _pick(mask_pixels: Tensor, boxes: _Boxes, x: Tensor, y: Tensor) -> Tensor:
    """(any,), columns x (n, S), rows y (n, S) -> (n, S, S)."""
    columns = boxes.base[:, None] + x * boxes.stride[:, None]
    return mask_pixels[y[:, :, None] + columns[:, None, :]]


def _pick_linear(mask_pixels: Tensor, boxes: _Boxes, side: int) -> Tensor:
    """(any,) bool -> (n, S, S) bool: bilinear between the mask's pixels, at least one half."""
    axes = []
    for length in (boxes.width, boxes.height):
        steps = torch.arange(side, device=length.device) + 0.5
        centre = (length[:, None] / side * steps - 0.5).clamp(min=0)  # (n, S)
        low = centre.floor().long()
        axes.append((low, (low + 1).minimum(length[:, None] - 1), centre - low))
    (x0, x1, fx), (y0, y1, fy) = axes
    fx, fy = fx[:, None, :], fy[:, :, None]
    top = torch.lerp(*(_pick(mask_pixels, boxes, x, y0).float() for x in (x0, x1)), fx)
    bottom = torch.lerp(*(_pick(mask_pixels, boxes, x, y1).float() for x in (x0, x1)), fx)
    return torch.lerp(top, bottom, fy) >= 0.5
