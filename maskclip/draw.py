"""The photo under its names."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from maskclip.legend import Entry, attach_legend, font_size
from maskclip.palette import colour_table, label_colour
from maskclip.segmentation import Segmentation, display_name, percent
from maskclip.tags import write_tags

OPACITY = 0.55  # of a name's colour over the photo
FADE = 0.5  # how much of the photo's own colour goes, so that the names' colours stay themselves
TAGGED_FRACTION = 0.01  # of the photo: names with less are in the legend only
HATCH_OPACITY = 0.55
GROUND_GREY, STRIPE_GREY = 84, 160  # where there is no name: ground and hatching


def draw(result: Segmentation, *, legend: bool = True) -> Image.Image:
    """The overlay: colours, names, mask borders, hatching where nothing was said, and a legend.

    The photo lies in the top left corner at its own size; the legend is beside or below it.
    """
    picture = _overlay(result.image, result.labels, result.ignore)
    large = [segment for segment in result.segments if segment.fraction >= TAGGED_FRACTION]
    names = {segment.label: display_name(segment.name) for segment in large}
    write_tags(picture, result.labels, names, font_size(picture.size))
    return attach_legend(picture, _entries(result)) if legend else picture


def _entries(result: Segmentation) -> list[Entry]:
    entries = [
        Entry(display_name(segment.name), percent(segment.fraction), label_colour(segment.label))
        for segment in result.segments
    ]
    ignored = float(np.mean(result.labels == result.ignore))
    if ignored:
        entries.append(Entry("no name", percent(ignored), None))
    return entries


def _overlay(image: np.ndarray, labels: np.ndarray, ignore: int) -> Image.Image:
    """(H, W, 3) uint8 and (H, W) -> the photo in the colours of its labels."""
    ignored = labels == ignore
    known = np.where(ignored, 0, labels)
    colours = Image.fromarray(colour_table(int(known.max()) + 1)[known])
    photo = Image.fromarray(image)
    grey = photo.convert("L").convert("RGB")
    picture = Image.blend(Image.blend(photo, grey, FADE), colours, OPACITY)
    if ignored.any():
        hatched = Image.blend(grey, _hatching(labels.shape), HATCH_OPACITY)
        picture.paste(hatched, mask=Image.fromarray(ignored))
    return _draw_borders(picture, labels)


def _hatching(size_hw: tuple[int, int]) -> Image.Image:
    """Diagonal stripes over the whole picture."""
    period = 6 * line_width(size_hw) + 4
    rows, columns = np.ogrid[: size_hw[0], : size_hw[1]]
    stripe = np.full(period, GROUND_GREY, np.uint8)
    stripe[: max(1, period // 4)] = STRIPE_GREY
    return Image.fromarray(stripe[(rows + columns) % period]).convert("RGB")


def line_width(size_hw: tuple[int, int]) -> int:
    """Pixels of a mask's border: 1 up to a small photo, 4 at 4000 pixels."""
    return max(1, round(max(size_hw) / 1000))


def _draw_borders(picture: Image.Image, labels: np.ndarray) -> Image.Image:
    """A light line with dark rims where two labels (H, W) meet: visible on every ground."""
    edges = np.zeros(labels.shape, np.uint8)  # (H, W)
    edges[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edges[1:] |= labels[1:] != labels[:-1]
    width = line_width(labels.shape)
    light = cv2.dilate(edges, np.ones((width, width), np.uint8))
    dark = cv2.dilate(light, np.ones((3, 3), np.uint8))
    picture.paste((0, 0, 0), mask=Image.fromarray(dark * np.uint8(115)))
    picture.paste((255, 255, 255), mask=Image.fromarray(light * np.uint8(215)))
    return picture
