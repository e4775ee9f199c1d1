"""Training crops: the crops that inference makes, from boxes that vary a little."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from maskclip.adaptation.config import DataConfig
from maskclip.adaptation.pair_table import PairTable
from maskclip.clip import MaskClip
from maskclip.crops import crop_regions, widen_boxes
from maskclip.images import load_image

COARSE_SIDES = (16, 96)  # pixels that a coarsened crop is reduced to
MEMORY_BYTES = 1_500_000_000  # of decoded photos that are kept


class RegionCrops:
    """Cuts the regions of a table out of their photos, by inference's own code.

    N: regions, S: side of a crop.
    """

    def __init__(
        self, table: PairTable, clip: MaskClip, config: DataConfig, *, workers: int = 0
    ) -> None:
        """``workers``: the processes among which the memory for photos is shared out."""
        self.table = table
        self.config = config
        self.side = clip.side
        self.fill_colour = clip.fill_colour
        self.box_margin = clip.config.box_margin
        self.background = clip.config.background
        self.background_strength = clip.config.background_strength
        self.interpolation = clip.config.interpolation
        self.fill = clip.config.fill
        self._photos = PhotoMemory(MEMORY_BYTES // max(1, workers))

    @property
    def spec(self) -> list:
        """All that plain crops depend on besides their regions, for the keys of caches."""
        return [
            self.side,
            self.background,
            self.background_strength,
            self.box_margin,
            self.fill,
            self.interpolation,
        ]

    def cut(self, region: int, varied: np.random.Generator | None) -> tuple[Tensor, Tensor]:
        """Index of a region -> (3, S, S) RGB in 0-255 and (S, S) bool, varied at random or not."""
        image = self._photos.load(self.table.photo(region))
        mask = self.table.mask(region)
        box = self.table.box_xyxy(region)
        if varied is not None:
            area_range = self.table.sources[self.table.region_source[region]].area_range
            box = vary_box(box, mask, area_range, self.config.ratio_range, varied)
        crops, crop_masks = crop_regions(
            image,
            torch.from_numpy(mask)[None],
            widen_boxes(torch.tensor([box]), self.box_margin, mask.shape),
            self.side,
            self.fill_colour,
            background=self.background,
            background_strength=self.background_strength,
            interpolation=self.interpolation,
        )
        crop, crop_mask = crops[0], crop_masks[0]
        if varied is not None and self.config.brightness:
            change = 1 + self.config.brightness * varied.uniform(-1, 1)
            crop = (crop * change).clamp(0, 255)
        if varied is not None and varied.random() < self.config.coarsen:
            crop = coarsen(crop, varied)
        if varied is not None and self.config.flip and varied.random() < 0.5:
            crop, crop_mask = crop.flip(-1), crop_mask.flip(-1)
        return crop, crop_mask

    def cut_many(
        self, regions: NDArray[np.int64], varied: np.random.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Indices of N regions -> (N, 3, S, S) and (N, S, S)."""
        shape = (len(regions), 3, self.side, self.side)
        crops = torch.empty(shape, memory_format=torch.channels_last)  # as convolutions like it
        crop_masks = torch.zeros(len(regions), self.side, self.side, dtype=torch.bool)
        for index, region in enumerate(regions):
            crops[index], crop_masks[index] = self.cut(int(region), varied)
        return crops, crop_masks


def coarsen(crop: Tensor, varied: np.random.Generator) -> Tensor:
    """(3, S, S) -> (3, S, S), as if the region had had few pixels, 16 to 96 a side."""
    pixels = round(np.exp(varied.uniform(*np.log(COARSE_SIDES))))
    small = F.interpolate(crop[None], (pixels, pixels), mode="area")
    return F.interpolate(small, crop.shape[1:], mode="bicubic", align_corners=False)[0].clamp(
        0, 255
    )


class PhotoMemory:
    """Decoded photos, the longest unused of which are forgotten when they get too many."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._bytes = 0
        self._photos: OrderedDict[Path, NDArray[np.uint8]] = OrderedDict()

    def load(self, path: Path) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB."""
        if path in self._photos:
            self._photos.move_to_end(path)
            return self._photos[path]
        image = load_image(path)
        self._photos[path] = image
        self._bytes += image.nbytes
        while self._bytes > self.limit_bytes and len(self._photos) > 1:
            self._bytes -= self._photos.popitem(last=False)[1].nbytes
        return image


def vary_box(
    box_xyxy: tuple[int, int, int, int],
    mask: NDArray[np.bool_],
    area_range: tuple[float, float],
    ratio_range: tuple[float, float],
    varied: np.random.Generator,
) -> tuple[int, int, int, int]:
    """A box of another area (a share of the old one's) and aspect, in the photo, over the mask.

    Shares above 1 show more than the region. The box is placed at random so that it lies in the
    old one or, where it is larger, holds it; one that misses the mask is the old box again.
    """
    height, width = mask.shape
    x0, y0, x1, y1 = box_xyxy
    share = varied.uniform(*area_range)
    ratio = np.exp(varied.uniform(*np.log(ratio_range)))
    spans = []
    for low, high, length, factor in (
        (x0, x1, width, np.sqrt(share * ratio)),
        (y0, y1, height, np.sqrt(share / ratio)),
    ):
        size = max(1, round((high - low) * (min(factor, 1.0) if share <= 1 else factor)))
        start = round(varied.uniform(*sorted((low, high - size))))
        spans.append((max(0, start), min(length, start + size)))
    (left, right), (top, bottom) = spans
    if not mask[top:bottom, left:right].any():
        return box_xyxy
    return left, top, right, bottom
