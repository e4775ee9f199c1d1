"""A photo with its target masks, small enough to stay in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

# The label of a mask that is none: pixels in which no mask is right or wrong. Not to be taken for
# matcher.UNNAMED, a mask like all others but for its name.
IGNORED = -1


@dataclass(frozen=True)
class Photo:
    """A decoded training photo. H x W: its pixels, M: its masks, kept as bits."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    packed_masks: np.ndarray  # (M, ceil(H * W / 8)) uint8
    labels: np.ndarray  # (M,) int64; UNNAMED for some, IGNORED for at most one

    @property
    def masks(self) -> np.ndarray:
        """(M, H, W) uint8 in {0, 1}."""
        height, width = self.image.shape[:2]
        bits = np.unpackbits(self.packed_masks, axis=1, count=height * width)
        return bits.reshape(-1, height, width)


def pack_photo(
    image: np.ndarray, masks: np.ndarray, labels: Sequence[int], short_side: int
) -> Photo:
    """(H, W, 3) uint8, (M, H, W) bool, M labels -> a Photo of at most this short side.

    Masks without a pixel left are dropped.
    """
    size_hw = shrunk_size(image.shape[:2], short_side)
    if size_hw != image.shape[:2]:
        image = cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA)
        masks = resize_stack(masks, size_hw)
    flat = masks.reshape(len(masks), size_hw[0] * size_hw[1]).astype(bool)
    keep = flat.any(axis=1)
    labels = np.asarray(labels, dtype=np.int64)[keep]
    return Photo(np.ascontiguousarray(image), np.packbits(flat[keep], axis=1), labels)


def shrunk_size(size_hw: tuple[int, int], short_side: int) -> tuple[int, int]:
    """The size with the short side at most ``short_side``, never enlarged, at least a pixel."""
    scale = min(1.0, short_side / min(size_hw))
    return max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale))


def resize_stack(masks: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """(M, H, W) bool or {0, 1} -> (M, h, w) uint8 by the nearest pixel."""
    resized = np.zeros((len(masks), *size_hw), dtype=np.uint8)
    for row, mask in zip(resized, masks, strict=True):
        row[:] = cv2.resize(mask.astype(np.uint8), size_hw[::-1], interpolation=cv2.INTER_NEAREST)
    return resized


def load_rgb(path: Path) -> np.ndarray:
    """A training photo as (H, W, 3) uint8 RGB, as stored (label maps know no EXIF rotation).

    Raises:
        OSError: it cannot be read; the path is named.
    """
    try:
        with Image.open(path) as photo:
            return np.array(photo.convert("RGB"))
    except OSError as error:
        raise OSError(f"cannot read the training photo {path}: {error}") from error
