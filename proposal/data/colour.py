"""SSD's colour augmentation."""

from __future__ import annotations

import cv2
import numpy as np


def jitter_colour(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> the same, in another light: each change has even odds.

    Brightness by up to 32; contrast by a factor of .5 to 1.5, before or after the colours; then
    saturation by such a factor and the hue by up to 18 degrees (SSD, Liu et al. 2016).
    """
    if rng.random() < 0.5:
        image = _scale(image, offset=rng.uniform(-32, 32))
    contrast_first = rng.random() < 0.5
    if contrast_first and rng.random() < 0.5:
        image = _scale(image, factor=rng.uniform(0.5, 1.5))
    image = _jitter_hsv(image, rng)
    if not contrast_first and rng.random() < 0.5:
        image = _scale(image, factor=rng.uniform(0.5, 1.5))
    return image


def _scale(image: np.ndarray, factor: float = 1.0, offset: float = 0.0) -> np.ndarray:
    return np.clip(image.astype(np.float32) * factor + offset, 0, 255).astype(np.uint8)


def _jitter_hsv(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    saturate, turn = rng.random() < 0.5, rng.random() < 0.5
    if not saturate and not turn:
        return image
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)  # OpenCV's hue runs from 0 to 179
    if saturate:
        hsv[..., 1] = _scale(hsv[..., 1], factor=rng.uniform(0.5, 1.5))
    if turn:
        hsv[..., 0] = (hsv[..., 0].astype(np.int16) + int(rng.integers(-18, 19))) % 180
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
