"""The small labelled photos of ``data/pretrain`` as mask-noun pairs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from maskclip.pairs import Pair

RESEARCH_ONLY = ("labelmefacade",)  # its licence allows research and non-commercial use only


def read_index(folder: str | Path, leave_out: Collection[str] = RESEARCH_ONLY) -> list[dict]:
    """The rows of ``index.jsonl`` whose source is not in ``leave_out``, in the file's order."""
    lines = (Path(folder) / "index.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines if line]
    return [row for row in rows if row["source"] not in leave_out]


def pretrain_pairs(folder: str | Path, rows: Sequence[dict], *, coarse: bool) -> Iterator[Pair]:
    """A pair for every row of the index; its noun is the label.

    The mask is the row's region where it has one, its box (``tiny_imagenet``), or the whole photo.
    With ``coarse``, a row with a coarser name (dog for Afghan Hound) gives a second pair with it.
    """
    folder = Path(folder)
    by_photo = defaultdict(list)
    for row in rows:
        by_photo[row["image"]].append(row)
    for image, photo_rows in tqdm(by_photo.items(), desc="pretrain", unit="photo"):
        with Image.open(folder / image) as photo:
            size_hw = photo.height, photo.width
        for index, row in enumerate(photo_rows):
            mask = row_mask(folder, row, size_hw)
            if not mask.any():
                continue
            image_id = str(Path(image).relative_to("images").with_suffix(""))
            pair = Pair.from_mask(
                mask, image=image, noun=row["label"], image_id=image_id, proposal=index
            )
            yield pair
            if coarse and row.get("coarse", row["label"]) != row["label"]:
                yield replace(pair, noun=row["coarse"])


def row_mask(folder: Path, row: dict[str, Any], size_hw: tuple[int, int]) -> np.ndarray:
    """The pixels that a row of the index names -> (H, W) bool."""
    if "mask" in row:
        return np.isin(read_mask(folder / row["mask"], size_hw), row["mask_values"])
    mask = np.ones(size_hw, dtype=bool)
    if "box" in row:  # the last row and column belong to the box
        left, top, right, bottom = row["box"]
        mask = np.zeros(size_hw, dtype=bool)
        mask[top : bottom + 1, left : right + 1] = True
    return mask


def read_mask(path: Path, size_hw: tuple[int, int]) -> np.ndarray:
    """An 8-bit PNG of class ids -> (H, W) uint8.

    Raises:
        ValueError: it is not of the photo's size.
    """
    with Image.open(path) as picture:
        values = np.asarray(picture)
    if values.shape != tuple(size_hw):
        raise ValueError(f"{path} must be {size_hw} like its photo, got {values.shape}")
    return values
