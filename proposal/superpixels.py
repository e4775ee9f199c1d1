"""Proposals without any weights: Felzenszwalb's regions at several scales."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
import torch
from skimage.segmentation import felzenszwalb
from torch import Tensor

from proposal.data.photo import shrunk_size
from proposal.proposals import Proposals


@dataclass(frozen=True)
class SuperpixelConfig:
    """The settings of the baseline; they stay as they are."""

    scales: tuple[float, ...] = (50.0, 100.0, 200.0, 400.0, 800.0)
    sigma: float = 0.8
    min_size: int = 50  # pixels of a region of the reduced photo
    short_side: int = 256  # of the reduced photo; smaller photos are not enlarged
    duplicate_iou: float = 0.9  # of two regions from here on, the smaller is dropped
    max_regions: int = 1000  # the largest that are kept

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"scales must be one or more numbers above 0, got {self.scales}")
        if self.short_side < 1 or self.max_regions < 1:
            raise ValueError(
                "short_side and max_regions must be at least 1, "
                f"got {self.short_side} and {self.max_regions}"
            )


class SuperpixelProposer:
    """Regions of every scale, largest first, with their share of the photo as score."""

    def __init__(self, config: SuperpixelConfig | None = None) -> None:
        self.config = config or SuperpixelConfig()

    def propose(self, image: np.ndarray) -> Proposals:
        """(H, W, 3) uint8 RGB -> Proposals of at most ``max_regions`` at the reduced size."""
        config = self.config
        size_hw = shrunk_size(image.shape[:2], config.short_side)
        if size_hw != image.shape[:2]:
            image = cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA)
        maps = [
            felzenszwalb(image, scale=scale, sigma=config.sigma, min_size=config.min_size)
            for scale in config.scales
        ]
        ids, areas = number_regions(maps)
        dropped = find_duplicates(ids, areas, config.duplicate_iou)
        order = np.argsort(-areas, kind="stable")  # of equal areas, the finer scale first
        order = order[~dropped[order]][: config.max_regions]
        masks = paint_regions(ids, order, len(areas))
        scores = torch.from_numpy(areas[order] / np.prod(size_hw)).float()
        return Proposals(masks, scores)


def number_regions(maps: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Label maps (h, w) from 0 on -> maps whose labels are unique over all, and (R,) areas."""
    ids, start = [], 0
    for labels in maps:
        ids.append(labels + start)
        start += int(labels.max()) + 1
    areas = np.concatenate([np.bincount(labels.ravel()) for labels in maps])
    return ids, areas


def paint_regions(ids: list[np.ndarray], chosen: np.ndarray, count: int) -> Tensor:
    """Maps (h, w) with labels below count, (Q,) chosen labels -> (Q, h, w) float masks."""
    row_of = np.full(count, -1)
    row_of[chosen] = np.arange(len(chosen))
    masks = torch.zeros(len(chosen), *ids[0].shape)
    for labels in ids:
        rows = torch.from_numpy(row_of[labels])  # (h, w)
        y, x = torch.nonzero(rows >= 0, as_tuple=True)
        masks[rows[y, x], y, x] = 1
    return masks


def find_duplicates(ids: list[np.ndarray], areas: np.ndarray, iou: float) -> np.ndarray:
    """Maps with unique labels, (R,) areas -> (R,) bool: smaller twins of a region that is kept."""
    twins = []
    for one, other in combinations(ids, 2):
        codes, overlaps = np.unique(one.ravel() * len(areas) + other.ravel(), return_counts=True)
        pairs = np.stack([codes // len(areas), codes % len(areas)])
        unions = areas[pairs[0]] + areas[pairs[1]] - overlaps
        twins.append(pairs[:, overlaps >= iou * unions])
    dropped = np.zeros(len(areas), dtype=bool)
    if not twins:
        return dropped
    joined = np.concatenate(twins, axis=1)
    swap = areas[joined[0]] < areas[joined[1]]
    larger, smaller = np.where(swap, joined[::-1], joined)
    for keeper, twin in sorted(zip(larger, smaller, strict=True), key=lambda p: -areas[p[0]]):
        if not dropped[keeper]:
            dropped[twin] = True
    return dropped
