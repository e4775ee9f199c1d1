"""Connected regions that a DeepLab teacher is sure about."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class RegionConfig:
    """Which of the teachers' regions are good enough to teach with."""

    min_fraction: float = 0.01  # of the photo's pixels
    min_confidence: float = 0.7  # mean probability of the winning name inside the region


@dataclass(frozen=True)
class Region:
    """A connected part of a photo with a name."""

    mask: np.ndarray  # (H, W) bool
    name: str
    confidence: float


def sure_regions(
    probs: np.ndarray,
    names: Sequence[str],
    wanted: Collection[str],
    config: RegionConfig,
    *,
    free: np.ndarray,
) -> list[Region]:
    """(1 + C, H, W) probabilities, C names -> the sure regions of ``wanted`` inside ``free``.

    Row 0 is other or background. ``free`` (H, W) bool holds the pixels that may be named.
    Largest first.
    """
    winner, best = probs.argmax(axis=0), probs.max(axis=0)  # (H, W)
    found = []
    for row, name in enumerate(names, start=1):
        if name not in wanted:
            continue
        for mask in connected_parts((winner == row) & free, config.min_fraction):
            confidence = float(best[mask].mean())
            if confidence >= config.min_confidence:
                found.append(Region(mask, name, confidence))
    return sorted(found, key=lambda region: int(region.mask.sum()), reverse=True)


def connected_parts(mask: np.ndarray, min_fraction: float) -> list[np.ndarray]:
    """(H, W) bool -> its 8-connected parts of at least ``min_fraction`` of all pixels."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= max(1, min_fraction * mask.size)
    return [parts == part for part in range(1, count) if large[part]]


def paint_regions(masks: Sequence[np.ndarray], size_hw: tuple[int, int]) -> np.ndarray:
    """Q masks (H, W) bool -> (H, W) uint8 or uint16 map: 0 nothing, i + 1 the i-th mask.

    Later masks lie on top of earlier ones: give them largest first.
    """
    painted = np.zeros(size_hw, dtype=np.uint8 if len(masks) < 256 else np.uint16)
    for value, mask in enumerate(masks, start=1):
        painted[mask] = value
    return painted


def largest_first(masks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The same masks (H, W) bool, by falling area."""
    return sorted(masks, key=lambda mask: int(mask.sum()), reverse=True)
