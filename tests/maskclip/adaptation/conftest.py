"""Photos of coloured squares with pairs that name the colours."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskclip.pairs import Pair, write_pairs_folder

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}


@pytest.fixture
def colour_pairs(tmp_path) -> Path:
    """8 photos of 32 x 48 with one 12 x 16 square each: red in the even ones, blue in the odd."""
    (tmp_path / "photos").mkdir()
    rows = []
    for index in range(8):
        name = list(COLOURS)[index % 2]
        photo = np.full((32, 48, 3), 128, np.uint8)
        mask = np.zeros((32, 48), bool)
        mask[4 + index : 16 + index, 8:24] = True
        photo[mask] = COLOURS[name]
        Image.fromarray(photo).save(tmp_path / "photos" / f"{index}.png")
        rows.append(Pair.from_mask(mask, image=f"{index}.png", noun=name))
    write_pairs_folder(tmp_path / "pairs", rows, images=tmp_path / "photos", config={})
    return tmp_path / "pairs"
