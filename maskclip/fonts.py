"""A font that can write any name."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

logger = logging.getLogger(__name__)


@lru_cache(maxsize=64)
def load_font(size: int, letters: str = "") -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """DejaVu Sans (it comes with matplotlib) in ``size`` pixels; without matplotlib Pillow's own.

    Where ``letters`` holds some that DejaVu lacks (Chinese, Japanese, Korean …), an installed font
    that has them all; where there is none, boxes are written.
    """
    try:
        from matplotlib import get_data_path
    except ImportError:
        return ImageFont.load_default(size)
    dejavu = str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
    if letters.isascii() or _covers(dejavu, letters):
        return ImageFont.truetype(dejavu, size)
    return ImageFont.truetype(_installed_font(letters) or dejavu, size)


def _covers(path: str, letters: str) -> bool:
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
    except (OSError, RuntimeError, UnicodeError):
        return False
    return all(font.get_char_index(ord(letter)) for letter in letters if not letter.isspace())


@lru_cache(maxsize=256)
def _installed_font(letters: str) -> str | None:
    """The path of a font on this machine with all the letters, upright ones first."""
    from matplotlib import font_manager

    fonts = font_manager.fontManager.ttflist  # read once per machine, then from matplotlib's cache
    fonts = [font for font in fonts if "LastResort" not in font.fname]
    fonts.sort(key=lambda font: (font.style != "normal", abs(int(font.weight) - 400), font.fname))
    found = next((font.fname for font in fonts if _covers(font.fname, letters)), None)
    if found is None:
        logger.warning("no installed font can write %r: it is drawn as boxes", letters)
    return found
