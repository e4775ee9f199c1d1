"""The legend of an overlay."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image, ImageDraw

from maskclip.fonts import load_font

PAPER, INK, FAINT, RIM = (255, 255, 255), (32, 32, 36), (112, 112, 120), (60, 60, 66)
SMALLEST_FONT, LARGEST_FONT = 12, 96  # pixels
MOST_ENTRIES = 40  # the rest is summed up in one line
WIDEST_NAME = 16  # of the font's size; longer names are cut
LONGEST_NAME = 100  # letters that are looked at


@dataclass(frozen=True)
class Entry:
    """One line: a name, its share, its colour (none: hatched)."""

    name: str
    share: str
    colour: tuple[int, int, int] | None


@dataclass(frozen=True)
class _Grid:
    """Where the lines of a legend stand; all numbers are pixels but rows, columns."""

    rows: int
    columns: int
    cell_w: int
    cell_h: int
    margin: int

    @property
    def size(self) -> tuple[int, int]:
        """Width, height."""
        return (
            self.columns * self.cell_w + self.margin,
            self.rows * self.cell_h + 2 * self.margin - self.cell_h // 3,
        )


def attach_legend(picture: Image.Image, entries: list[Entry]) -> Image.Image:
    """The picture with a legend beside or below it, whichever makes the more compact whole."""
    if not entries:
        entries = [Entry("nothing found", "", None)]
    if len(entries) > MOST_ENTRIES:
        rest = len(entries) - MOST_ENTRIES + 1
        entries = [*entries[: MOST_ENTRIES - 1], Entry(f"… and {rest} more", "", None)]
    size = font_size(picture.size)
    beside, below = _plan_grids(picture.size, entries, size)
    wide = (picture.width + beside.size[0], max(picture.height, beside.size[1]))
    high = (max(picture.width, below.size[0]), picture.height + below.size[1])
    is_beside = _awkwardness(wide) <= _awkwardness(high)
    canvas = Image.new("RGB", wide if is_beside else high, PAPER)
    canvas.paste(picture, (0, 0))
    origin = (picture.width, 0) if is_beside else (0, picture.height)
    _write(canvas, origin, entries, beside if is_beside else below, size)
    return canvas


def font_size(size_wh: tuple[int, int]) -> int:
    """Pixels of the letters: in proportion to the photo, as far as they stay readable."""
    return round(min(LARGEST_FONT, max(SMALLEST_FONT, 0.03 * math.sqrt(math.prod(size_wh)))))


def _awkwardness(size_wh: tuple[int, int]) -> float:
    """How large a usual screen must be to show it."""
    return max(size_wh[0] / 1.6, size_wh[1])


def _plan_grids(size_wh: tuple[int, int], entries: list[Entry], size: int) -> tuple[_Grid, _Grid]:
    """The legend beside a picture of ``size_wh``, and below it."""
    width, height = size_wh
    count = len(entries)
    names = max(_text_width(_fit(entry.name, size), size) for entry in entries)
    shares = max(_text_width(entry.share, size) for entry in entries)
    margin, cell_h = max(6, round(0.9 * size)), round(1.6 * size)
    cell_w = round(1.3 * size + 0.6 * size + names + 0.9 * size + shares) + margin

    rows = max((height - 2 * margin + cell_h // 3) // cell_h, math.ceil(1.5 * math.sqrt(count)))
    columns = math.ceil(count / min(rows, count))
    beside = _Grid(math.ceil(count / columns), columns, cell_w, cell_h, margin)
    columns = min(count, max(1, (width - margin) // cell_w))
    rows = math.ceil(count / columns)
    below = _Grid(rows, math.ceil(count / rows), cell_w, cell_h, margin)
    return beside, below


def _write(
    canvas: Image.Image, origin: tuple[int, int], entries: list[Entry], grid: _Grid, size: int
) -> None:
    pen = ImageDraw.Draw(canvas)
    for index, entry in enumerate(entries):
        column, row = divmod(index, grid.rows)
        x = origin[0] + grid.margin + column * grid.cell_w
        y = origin[1] + grid.margin + row * grid.cell_h
        swatch = (x, y, x + round(1.3 * size), y + round(1.05 * size))
        middle = (swatch[1] + swatch[3]) / 2
        _draw_swatch(canvas, pen, swatch, entry.colour)
        name, share = _fit(entry.name, size), entry.share
        pen.text((x + 1.9 * size, middle), name, INK, load_font(size, name), anchor="lm")
        right = x + grid.cell_w - grid.margin
        pen.text((right, middle), share, FAINT, load_font(size), anchor="rm")


def _draw_swatch(
    canvas: Image.Image,
    pen: ImageDraw.ImageDraw,
    box_xyxy: tuple[int, int, int, int],
    colour: tuple[int, int, int] | None,
) -> None:
    left, top, right, bottom = box_xyxy
    thickness = max(1, (bottom - top) // 16)
    if colour is not None:
        pen.rounded_rectangle(box_xyxy, (bottom - top) // 5, colour, RIM, thickness)
        return
    hatch = Image.new("RGB", (right - left + 1, bottom - top + 1), (100, 100, 104))
    stripes = ImageDraw.Draw(hatch)
    step = max(4, (bottom - top) // 3)
    for start in range(0, hatch.width + hatch.height, step):
        line = (start, 0, start - hatch.height, hatch.height)
        stripes.line(line, (165, 165, 170), max(1, step // 4))
    canvas.paste(hatch, (left, top))
    pen.rectangle(box_xyxy, None, RIM, thickness)


def _text_width(text: str, size: int) -> int:
    return math.ceil(load_font(size, text).getlength(text))


def _fit(name: str, size: int) -> str:
    """The name on one line, cut with an ellipsis where it is too long."""
    name = name[:LONGEST_NAME]
    if _text_width(name, size) <= WIDEST_NAME * size:
        return name
    length = next(n for n in range(len(name), 0, -1) if _fits(name[:n] + "…", size))
    return name[:length].rstrip() + "…"


def _fits(text: str, size: int) -> bool:
    return _text_width(text, size) <= WIDEST_NAME * size
