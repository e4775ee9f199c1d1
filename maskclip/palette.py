"""A colour for every label."""

from __future__ import annotations

import numpy as np

# Eight colours that everybody can name, then each time the one farthest from all before it (OKLab,
# lightness counting less because the photo shines through; greys left out).
PALETTE = tuple(
    bytes.fromhex(
        "e41848307ef0fcd21e30b442f684309c3cde24d2ccf06cd800601e7830600f1edc8ae600905a12aeb4fc005484"
        "00908a9c72a8fcaebac000904e2aaeaeae6ca2f6a89c0000e41efc72840600b4fcde72846c00fcb47efc7e0096"
    )[start : start + 3]
    for start in range(0, 90, 3)
)
SHIFTS = (0.0, -0.4, 0.45)  # towards black, white: how each round through the palette differs


def label_colour(label: int) -> tuple[int, int, int]:
    """The RGB colour of a label; always the same one, alike only from the 91st label on."""
    shift = SHIFTS[label // len(PALETTE) % len(SHIFTS)]
    target = 255 if shift > 0 else 0
    colour = PALETTE[label % len(PALETTE)]
    red, green, blue = (round(value + abs(shift) * (target - value)) for value in colour)
    return red, green, blue


def colour_table(count: int) -> np.ndarray:
    """-> (count, 3) uint8, the colours of labels 0 … count - 1."""
    return np.array([label_colour(label) for label in range(count)], np.uint8).reshape(count, 3)
