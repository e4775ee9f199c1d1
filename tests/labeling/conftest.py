"""Pairs that several tests read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskclip.pairs import Pair, write_pairs, write_run

SIZE_HW = (40, 60)


def a_mask(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE_HW, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.fixture
def pairs_folder(tmp_path) -> Path:
    """Two shards: a.png (id 7) shows a red cat and a whole sofa, b/c.png (id 8) a blue cat."""
    photos = tmp_path / "photos"
    (photos / "b").mkdir(parents=True)
    red = np.zeros((*SIZE_HW, 3), dtype=np.uint8)
    red[10:20, 20:40] = (255, 0, 0)
    Image.fromarray(red).save(photos / "a.png")
    Image.fromarray(np.roll(red, 2, axis=2)).save(photos / "b" / "c.png")
    cat, sofa = a_mask(10, 20, 20, 40), a_mask(0, 0, 40, 60)
    cat[10, 20] = False
    said = {"caption": "A <b>cat</b> & a sofa.", "caption_id": "11"}
    a = {"image": "a.png", "image_id": "7", **said}
    b = {"image": "b/c.png", "image_id": "8", "caption": "Cats", "caption_id": "12"}
    first = [
        Pair.from_mask(cat, noun="cat", score=0.5, probability=0.75, proposal=3, **a),
        Pair.from_mask(sofa, noun="sofa", score=0.25, probability=0.5, proposal=0, **a),
    ]
    second = [Pair.from_mask(cat, noun="cat", score=0.125, probability=1.0, proposal=1, **b)]
    folder = tmp_path / "pairs"
    write_pairs(folder, 0, first)
    write_pairs(folder, 1, second)
    write_run(folder, photos, {})
    return folder
