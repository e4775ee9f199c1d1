"""The contact sheet as one picture."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from labeling.contact_cards import Card
from maskclip.fonts import load_font
from proposal.whole_file import write_whole

COLUMNS = 5
BOX = 200  # a picture's place
GAP = 10
TEXT = 74  # pixels below the pictures
HEADER = 44
PAPER, CARD, INK, FAINT = (242, 242, 244), (255, 255, 255), (32, 32, 36), (112, 112, 122)
LETTERS = 58  # of a caption on one line


def write_png(path: Path, cards: Sequence[Card], title: str) -> Path:
    """Write the picture, whole, and return its path."""
    columns = min(COLUMNS, len(cards))
    width, height = 2 * BOX + 3 * GAP, BOX + TEXT + 2 * GAP
    rows = -(-len(cards) // columns)
    size_wh = (columns * (width + GAP) + GAP, HEADER + rows * (height + GAP))
    sheet = Image.new("RGB", size_wh, PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, HEADER / 2), title, INK, load_font(22, title), anchor="lm")
    for index, card in enumerate(cards):
        row, column = divmod(index, columns)
        origin = (GAP + column * (width + GAP), HEADER + row * (height + GAP))
        pen.rounded_rectangle((*origin, origin[0] + width, origin[1] + height), 8, CARD)
        _draw_card(sheet, pen, origin, card)
    content = io.BytesIO()
    sheet.save(content, "PNG", compress_level=3)  # a tenth of the time, hardly larger
    write_whole(path, content.getvalue())
    return path


def _draw_card(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, origin: tuple[int, int], card: Card
) -> None:
    left, top = origin[0] + GAP, origin[1] + GAP
    for place, picture in enumerate((card.photo, card.crop)):
        x = left + place * (BOX + GAP) + (BOX - picture.width) // 2
        sheet.paste(picture, (x, top + (BOX - picture.height) // 2))
    below = top + BOX + 4
    noun = textwrap.shorten(card.noun, 32, placeholder="…")
    bold = load_font(20, noun)
    pen.text((left, below), noun, INK, bold)
    start = left + bold.getlength(noun) + GAP
    pen.text((start, below + 5), card.numbers, FAINT, load_font(14))
    lines = textwrap.wrap(card.row["caption"], LETTERS)[:2]
    for line, text in enumerate(lines):
        pen.text((left, below + 30 + 19 * line), text, INK, load_font(13, text))
