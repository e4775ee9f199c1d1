"""Names written into the picture, where they fit."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw

from maskclip.fonts import load_font

COARSE = 512  # places are sought on a grid of at most this many points a side


@dataclass(frozen=True)
class _Place:
    """The middle of the largest circle in a patch, in pixels of the photo."""

    x: float
    y: float
    radius: float


def write_tags(picture: Image.Image, labels: np.ndarray, names: dict[int, str], size: int) -> None:
    """Write each label's name into its (H, W) largest patch, unless it does not fit.

    The picture is changed. ``size``: of the letters, in pixels.
    """
    pen = ImageDraw.Draw(picture)
    stroke = max(1, round(size / 8))
    for label, name in names.items():
        font = load_font(size, name)
        place, width = _find_place(labels, label), font.getlength(name) + 2 * stroke
        if not _fits(width, size, place):
            continue
        x = min(max(place.x, width / 2), picture.width - width / 2)
        position = (x, place.y)
        pen.text(position, name, "white", font, "mm", stroke_width=stroke, stroke_fill=(20, 20, 24))


def _fits(width: float, size: int, place: _Place) -> bool:
    return place.radius >= 0.8 * size and width <= 2.6 * place.radius


def _find_place(labels: np.ndarray, label: int) -> _Place:
    """(H, W) -> the roomiest spot of the label's pixels."""
    step = max(1, -(-max(labels.shape) // COARSE))
    rows, columns = (slice(min(step // 2, side - 1), None, step) for side in labels.shape)
    inside = (labels[rows, columns] == label).astype(np.uint8)
    # A rim of outside: the picture's edge bounds a patch, too.
    inside = cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    row, column = np.unravel_index(int(distance.argmax()), distance.shape)
    return _Place((column - 0.5) * step, (row - 0.5) * step, float(distance[row, column]) * step)
