"""What a contact sheet shows of a pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image


@dataclass(frozen=True)
class Card:
    """One pair as it is shown."""

    photo: Image.Image  # the mask outlined, the rest dimmed
    crop: Image.Image  # the box of the mask, only the mask seen
    row: dict[str, Any]  # of the pairs

    @property
    def noun(self) -> str:
        """What the mask is said to be."""
        return self.row["noun"]

    @property
    def numbers(self) -> str:
        """Score, probability, share of the photo."""
        row = self.row
        share = row["area"] / (row["height"] * row["width"])
        return f"{row['score']:.3f}   p {row['probability']:.2f}   {100 * share:.1f}%"
