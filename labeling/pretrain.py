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

from labeling.regions import connected_parts, largest_first, paint_regions
from maskclip.pairs import Pair

RESEARCH_ONLY = ("labelmefacade",)  # its licence allows research and non-commercial use only
OBJECTS_ON_PEOPLE = ("bag", "purse", "wallet", "tie")  # objects of their own, not a person's parts
MIN_FRACTION = 0.004  # of the photo: smaller parts of a region teach stage 1 nothing


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


def pretrain_maps(
    folder: str | Path, rows: Sequence[dict]
) -> Iterator[tuple[Path, np.ndarray, str]]:
    """Every photo of these masked rows -> its path, its (H, W) map of regions, its stem.

    Clothes and body parts are one person; regions fall apart into their connected parts.
    """
    for photo, named in _whole_objects(Path(folder), rows, "region maps"):
        parts = [part for _, mask in named for part in connected_parts(mask, MIN_FRACTION)]
        yield photo, paint_regions(largest_first(parts), named[0][1].shape), photo.stem


def pretrain_named(
    folder: str | Path, rows: Sequence[dict]
) -> Iterator[tuple[Path, list[tuple[str, np.ndarray]]]]:
    """Every photo of these masked rows -> its path, its labels with their (H, W) masks.

    Clothes and body parts are one person. Largest first.
    """
    for photo, named in _whole_objects(Path(folder), rows, "named maps"):
        yield photo, sorted(named, key=lambda each: int(each[1].sum()), reverse=True)


def _whole_objects(
    folder: Path, rows: Sequence[dict], told: str
) -> Iterator[tuple[Path, list[tuple[str, np.ndarray]]]]:
    """Every photo of these masked rows with the labels and masks that are no parts of a person."""
    by_photo = defaultdict(list)
    for row in rows:
        by_photo[row["image"]].append(row)
    for image, photo_rows in tqdm(by_photo.items(), desc=told, unit="photo"):
        values = read_mask(folder / photo_rows[0]["mask"])
        person = {value for row in photo_rows if row.get("union") for value in row["mask_values"]}
        yield (
            folder / image,
            [
                (row["label"], np.isin(values, row["mask_values"]))
                for row in photo_rows
                if row.get("union")
                or row["label"] in OBJECTS_ON_PEOPLE
                or not person.issuperset(row["mask_values"])
            ],
        )


def row_mask(folder: Path, row: dict[str, Any], size_hw: tuple[int, int]) -> np.ndarray:
    """The pixels that a row of the index names -> (H, W) bool."""
    if "mask" in row:
        values = read_mask(folder / row["mask"])
        if values.shape != tuple(size_hw):
            raise ValueError(f"{row['mask']} must be {size_hw} like its photo, got {values.shape}")
        return np.isin(values, row["mask_values"])
    mask = np.ones(size_hw, dtype=bool)
    if "box" in row:  # the last row and column belong to the box
        left, top, right, bottom = row["box"]
        mask = np.zeros(size_hw, dtype=bool)
        mask[top : bottom + 1, left : right + 1] = True
    return mask


def read_mask(path: Path) -> np.ndarray:
    """An 8-bit PNG of class ids -> (H, W) uint8."""
    with Image.open(path) as picture:
        return np.asarray(picture)
