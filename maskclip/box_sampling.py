"""Many boxes of an image resampled to squares at once.

Pixels are kept as a flat list, column after column. A box is gathered as windows of that list, one
for each of its columns, and resampled by weighted sums of rows of a table, which is what an
embedding bag computes. Where boxes lie is worked out on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

PIXELS_PER_CHUNK = 3_000_000  # box pixels gathered at once: bounds memory at about 100 MiB


@dataclass(frozen=True)
class Kernel:
    """Keys' cubic convolution, 2 pixels to each side, or the linear one, 1 pixel."""

    sharpness: float | None  # his a; -0.75 in torch, -0.5 in PIL; None: linear
    antialias: bool  # widen it where pixels would be skipped


@dataclass(frozen=True)
class Taps:
    """Which pixels of its box an output pixel mixes, along one axis. n: boxes, t: taps."""

    index: Tensor  # (n, S, t) int64, pixels counted from the box's first
    weight: Tensor  # (n, S, t) float, summing to 1


@dataclass(frozen=True)
class Boxes:
    """Where n boxes lie in a flat list of pixels, pixel (x, y) of an image at x * stride + y."""

    base: Tensor  # (n,) int64, place of the first pixel
    stride: Tensor  # (n,) int64, places from one column to the next
    width: Tensor  # (n,) int64
    height: Tensor  # (n,) int64

    @classmethod
    def at(cls, boxes_xyxy: Tensor, stride: Tensor, offset: Tensor) -> Boxes:
        """(n, 4) in images of ``stride`` (n,) pixels a column that start at ``offset`` (n,)."""
        x0, y0, x1, y1 = boxes_xyxy.unbind(dim=1)
        return cls(offset + x0 * stride + y0, stride, x1 - x0, y1 - y0)

    @classmethod
    def of_masks(cls, boxes_xyxy: Tensor, size_hw: tuple[int, int]) -> Boxes:
        """(n, 4), each in its own one of n masks, which follow each other."""
        height, width = size_hw
        offset = torch.arange(len(boxes_xyxy)) * (height * width)
        return cls.at(boxes_xyxy, torch.full_like(offset, height), offset)

    def __getitem__(self, chunk: Tensor) -> Boxes:
        return Boxes(*(part[chunk] for part in vars(self).values()))

    @property
    def first_column(self) -> Tensor:
        """(n,): where each box's columns start in what ``columns`` returns."""
        return self.width.cumsum(0) - self.width

    def chunks(self) -> list[Tensor]:
        """Index tensors of boxes of like height, each chunk of bounded area."""
        height, order = self.height.sort()
        chunk_of = (self.width[order] * height).cumsum(0) // PIXELS_PER_CHUNK
        counts = torch.unique_consecutive(chunk_of, return_counts=True)[1]
        return list(order.split(counts.tolist()))


def flat_image(image: Tensor) -> Tensor:
    """(h, w, c) -> (w * h, c), column after column."""
    return image.transpose(0, 1).reshape(-1, image.shape[2])


def flat_masks(masks: Tensor) -> Tensor:
    """(N, h, w) -> (N * w * h,), column after column."""
    return masks.transpose(1, 2).flatten()


def flat_pyramid(image: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(H, W, c), (N,) -> pixels of all levels (any, c), each region's stride and offset (N,).

    Level l is the image halved l times by averaging 2 x 2 pixels.
    """
    planes, levels = image.permute(2, 0, 1)[None], [image]
    for _ in range(int(level.max())):
        planes = F.avg_pool2d(planes, 2, ceil_mode=True)
        levels.append(planes[0].permute(1, 2, 0))
    heights = torch.tensor([plane.shape[0] for plane in levels])
    sizes = torch.tensor([plane.shape[0] * plane.shape[1] for plane in levels])
    pixels = torch.cat([flat_image(plane) for plane in levels])
    return pixels, heights[level], (sizes.cumsum(0) - sizes)[level]


def columns(pixels: Tensor, boxes: Boxes) -> Tensor:
    """(any, c) pixels -> (R, K, c): the R columns of n boxes one below the other.

    K is the height of the highest box; lower boxes' columns run on into what follows.
    """
    depth, tall = pixels.shape[1], int(boxes.height.max())
    box_of = torch.repeat_interleave(boxes.width)  # (R,)
    x = torch.arange(len(box_of)) - boxes.first_column[box_of]
    starts = boxes.base[box_of] + x * boxes.stride[box_of]  # (R,)
    room = int(starts.max()) + tall - len(pixels)
    if room > 0:
        pixels = torch.cat([pixels, pixels.new_zeros(room, depth)])
    # Windows of the flat list overlap; only those asked for are copied
    windows = pixels.flatten().unfold(0, tall * depth, depth)  # (any, K * c)
    gathered = windows.index_select(0, starts.to(pixels.device))  # (R, K * c)
    return gathered.view(len(starts), tall, depth)


def place_taps(start: Tensor, end: Tensor, side: int, kernel: Kernel) -> Taps:
    """(n,), (n,) extents counted from the boxes' first pixels -> the taps of S output pixels."""
    last = end.ceil().long()[:, None, None] - 1
    scale = ((end - start).float() / side)[:, None]  # single precision, as torch has it
    steps = torch.arange(side, dtype=torch.float64) + 0.5
    # Rounded to single precision once, as by torch's fused multiply and add
    centre = (scale * steps + (start[:, None] - 0.5)).float()  # (n, S)
    stretch = scale.clamp(min=1) if kernel.antialias else torch.ones_like(scale)
    count = int((4 * stretch.max()).ceil())
    first = (centre - 2 * stretch).floor() + 1
    place = first[..., None] + torch.arange(count)  # (n, S, t)
    weight = _weight((place - centre[..., None]) / stretch[..., None], kernel.sharpness)
    weight = weight / weight.sum(dim=-1, keepdim=True)
    return Taps(place.long().clamp(min=0).minimum(last), weight)


def mix(gathered: Tensor, boxes: Boxes, taps_x: Taps, taps_y: Taps) -> Tensor:
    """(R, K, c) columns of n boxes -> (n, S, S, c)."""
    n, side, _ = taps_x.index.shape
    tall, depth = gathered.shape[1:]
    table = gathered.view(len(gathered), tall * depth)
    mixed = _weighted_rows(table, taps_x, boxes.first_column)  # (n * S, K * c)
    mixed = mixed.view(n, side, tall, depth).transpose(1, 2)  # (n, K, S, c)
    table = mixed.reshape(n * tall, side * depth)
    return _weighted_rows(table, taps_y, torch.arange(n) * tall).view(n, side, side, depth)


def pick_nearest(pixels: Tensor, boxes: Boxes, side: int) -> Tensor:
    """(any,) -> (n, S, S) by torch's legacy ``nearest``: the floor, no half pixel."""
    steps = torch.arange(side)
    x, y = [
        ((length.float() / side)[:, None] * steps).long().minimum(length[:, None] - 1)
        for length in (boxes.width, boxes.height)
    ]  # (n, S)
    return _pick(pixels, boxes, x, y)


def pick_linear(pixels: Tensor, boxes: Boxes, side: int) -> Tensor:
    """(any,) bool -> (n, S, S) bool: bilinear between the pixels, at least one half."""
    axes = []
    for length in (boxes.width, boxes.height):
        place = (length[:, None] / side * (torch.arange(side) + 0.5) - 0.5).clamp(min=0)  # (n, S)
        low = place.long()
        share = (place - low).to(pixels.device)
        axes.append((low, (low + 1).minimum(length[:, None] - 1), share))
    (x0, x1, right), (y0, y1, down) = axes
    top, bottom = [
        torch.lerp(*(_pick(pixels, boxes, x, y).float() for x in (x0, x1)), right[:, None, :])
        for y in (y0, y1)
    ]
    return torch.lerp(top, bottom, down[:, :, None]) >= 0.5


def _weight(distance: Tensor, a: float | None) -> Tensor:
    """Of a pixel at such a distance from the centre."""
    return (1 - distance.abs()).clamp(min=0) if a is None else _cubic(distance, a)


def _cubic(distance: Tensor, a: float) -> Tensor:
    d = distance.abs()
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = (((d - 5) * d + 8) * d - 4) * a
    return torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))


def _weighted_rows(table: Tensor, taps: Taps, first: Tensor) -> Tensor:
    """(R, k), taps counted from each box's first row (n,) -> (n * S, k) weighted sums of rows."""
    rows = (taps.index + first[:, None, None]).flatten(0, 1)  # (n * S, t)
    weight = taps.weight.flatten(0, 1).to(table)
    return F.embedding_bag(rows.to(table.device), table, mode="sum", per_sample_weights=weight)


def _pick(pixels: Tensor, boxes: Boxes, x: Tensor, y: Tensor) -> Tensor:
    """(any,), columns x (n, S), rows y (n, S) -> (n, S, S)."""
    starts = (boxes.base[:, None] + x * boxes.stride[:, None]).to(pixels.device)
    return pixels[y.to(pixels.device)[:, :, None] + starts[:, None, :]]
