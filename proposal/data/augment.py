"""How a training photo is flipped, zoomed, cropped, pasted onto."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from proposal.data.colour import jitter_colour
from proposal.data.photo import IGNORED, Photo, resize_stack

PAD_VALUE = 128  # of an image's padding
MAX_PASTED = 0.25  # of the crop's area that a pasted object may cover


@dataclass(frozen=True)
class AugmentConfig:
    """How much photos are varied; the defaults are the published ones."""

    zoom: tuple[float, float] = (0.5, 2.0)  # short side of the photo / side of the crop
    zoom_step: float = 0.0  # 0.1 = only 0.5, 0.6, … 2.0, equally often (published); 0 = any, log
    aspect: float = 1.0  # width is stretched against height by up to this factor
    flip: bool = True
    colour: bool = True
    min_area: int = 16  # pixels that a target must have left in the crop
    paste: float = 0.0  # odds that objects of a second photo are pasted on

    def __post_init__(self) -> None:
        low, high = self.zoom
        if not 0 < low <= high:
            raise ValueError(f"zoom must be two rising factors above 0, got {low} and {high}")
        if self.zoom_step < 0:
            raise ValueError(f"zoom_step must be 0 (any zoom) or more, got {self.zoom_step}")
        if self.aspect < 1:
            raise ValueError(f"aspect must be 1 (none) or more, got {self.aspect}")


@dataclass(frozen=True)
class Crop:
    """A square training sample. S: its side, M: its masks (may be 0)."""

    image: np.ndarray  # (S, S, 3) uint8 RGB
    masks: np.ndarray  # (M, S, S) uint8 in {0, 1}
    labels: np.ndarray  # (M,) int64; IGNORED for at most one


def augment(photo: Photo, side: int, config: AugmentConfig, rng: np.random.Generator) -> Crop:
    """A Photo -> a random Crop with ``side`` = S; what the photo does not fill is padding."""
    height, width = photo.image.shape[:2]
    zoom = _draw_zoom(config, rng)
    stretch = math.exp(rng.uniform(-0.5, 0.5) * math.log(config.aspect))
    scale = zoom * side / min(height, width)
    scale_y, scale_x = scale / stretch, scale * stretch
    # The window of the photo that becomes the crop, and how large it becomes
    window_h, window_w = min(height, side / scale_y), min(width, side / scale_x)
    top = rng.uniform(0, height - window_h)
    left = rng.uniform(0, width - window_w)
    rows = slice(int(top), max(int(top) + 1, round(top + window_h)))
    columns = slice(int(left), max(int(left) + 1, round(left + window_w)))
    size_hw = (_fit(window_h * scale_y, side), _fit(window_w * scale_x, side))
    image = photo.image[rows, columns]
    smaller = size_hw[0] * size_hw[1] < image.shape[0] * image.shape[1]
    image = cv2.resize(
        image, size_hw[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    )
    masks = photo.masks[:, rows, columns]
    seen = masks.any(axis=(1, 2))
    masks, labels = resize_stack(masks[seen], size_hw), photo.labels[seen]
    if config.flip and rng.random() < 0.5:
        image, masks = image[:, ::-1], masks[:, :, ::-1]
    if config.colour:
        image = jitter_colour(np.ascontiguousarray(image), rng)
    return _keep_large(_pad(image, masks, labels, side), config.min_area)


def paste(crop: Crop, donor: Crop, config: AugmentConfig, rng: np.random.Generator) -> Crop:
    """Copy some of a donor's objects onto a crop of the same side, over what is there.

    Each has even odds, but for those that would cover most of the crop.
    """
    small = donor.masks.mean(axis=(1, 2)) <= MAX_PASTED if len(donor.masks) else False
    chosen = (rng.random(len(donor.masks)) < 0.5) & small & (donor.labels != IGNORED)
    if not chosen.any():
        return crop
    new = donor.masks[chosen]
    covered = new.any(axis=0)  # (S, S)
    image = np.where(covered[..., None], donor.image, crop.image)
    masks = np.concatenate([crop.masks * ~covered, new])
    labels = np.concatenate([crop.labels, donor.labels[chosen]])
    return _keep_large(Crop(image, masks, labels), config.min_area)


def _draw_zoom(config: AugmentConfig, rng: np.random.Generator) -> float:
    low, high = config.zoom
    if not config.zoom_step:
        return math.exp(rng.uniform(math.log(low), math.log(high)))
    steps = round((high - low) / config.zoom_step)
    return low + config.zoom_step * int(rng.integers(steps + 1))


def _fit(length: float, side: int) -> int:
    return min(side, max(1, round(length)))


def _pad(image: np.ndarray, masks: np.ndarray, labels: np.ndarray, side: int) -> Crop:
    height, width = image.shape[:2]
    canvas = np.full((side, side, 3), PAD_VALUE, dtype=np.uint8)
    canvas[:height, :width] = image
    room = np.zeros((len(masks), side, side), dtype=np.uint8)
    room[:, :height, :width] = masks
    return Crop(canvas, room, labels)


def _keep_large(crop: Crop, min_area: int) -> Crop:
    large = crop.masks.sum(axis=(1, 2), dtype=np.int64) >= min_area
    keep = large | (crop.labels == IGNORED)
    return Crop(crop.image, crop.masks[keep], crop.labels[keep])
