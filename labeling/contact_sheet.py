"""Random pairs on one page, for a person to judge at a glance."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from labeling.contact_cards import Card
from labeling.contact_html import write_html
from labeling.contact_png import write_png
from labeling.export_crops import masked_crop
from labeling.pair_stream import count_rows, shard_paths
from maskclip.images import load_image
from maskclip.pairs import decode_mask, images_root

logger = logging.getLogger(__name__)

SIDE = 200  # pixels of a picture's longer side
OUTLINE, RIM = (255, 225, 0), (0, 0, 0)
DIMMED = 0.7  # what is left of the light outside the mask
SMALLEST = 18  # pixels of a mask in its picture, below which a ring shows where it is


def write_contact_sheet(
    folder: str | Path, *, count: int = 50, seed: int = 0
) -> tuple[Path, Path] | None:
    """Write ``pairs.html`` and ``pairs.png`` with ``count`` random pairs into a pairs folder.

    The same pairs for the same seed and folder. The page needs no other file and no network; a
    click on a pair marks it as wrong and is counted. Returns both paths; none where no pair can be
    shown.

    Raises:
        FileNotFoundError: the folder holds no shards or no ``run.json``.
    """
    folder = Path(folder)
    cards = list(draw_cards(folder, count, seed))
    if not cards:
        return None
    title = f"{len(cards)} of {count_rows(folder):,} pairs of {folder.resolve().name}"
    page = write_html(folder / "pairs.html", cards, title)
    return page, write_png(folder / "pairs.png", cards, title)


def draw_cards(folder: Path, count: int, seed: int) -> Iterator[Card]:
    """Random pairs in the order of the shards; those whose photo cannot be read are left out."""
    root = images_root(folder)
    chosen = choose_rows(folder, count, seed)
    for image, rows in groupby(chosen, key=lambda row: row["image"]):
        try:
            photo = load_image(root / image)
            for row in rows:
                crop = Image.fromarray(masked_crop(photo, row))
                yield Card(outline_mask(photo, decode_mask(row)), _fit(crop), row)
        except (OSError, ValueError) as error:
            logger.warning("not on the contact sheet: %s", error)


def choose_rows(folder: Path, count: int, seed: int) -> list[dict[str, Any]]:
    """``count`` random rows of all shards, fewer where there are fewer, in their order."""
    total = count_rows(folder)
    rng = np.random.default_rng(seed)
    places = np.sort(rng.choice(total, size=min(count, total), replace=False))
    rows, start = [], 0
    for path in shard_paths(folder):
        stop = start + pq.read_metadata(path).num_rows
        inside = places[(places >= start) & (places < stop)] - start
        if len(inside):
            rows += pq.read_table(path).take(inside).to_pylist()
        start = stop
    return rows


def outline_mask(photo: np.ndarray, mask: np.ndarray, side: int = SIDE) -> Image.Image:
    """(H, W, 3) uint8, (H, W) bool -> the photo within ``side`` pixels, the mask outlined."""
    small = np.array(_fit(Image.fromarray(photo), side))
    size_wh = small.shape[1::-1]
    coverage = cv2.resize(mask.astype(np.float32), size_wh, interpolation=cv2.INTER_AREA)
    inside = (coverage >= min(0.5, float(coverage.max()))).astype(np.uint8)
    small = np.where(inside[..., None] > 0, small, (small * DIMMED).astype(np.uint8))
    edge = cv2.morphologyEx(inside, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if len(rows) and max(rows[-1] - rows[0], columns[-1] - columns[0]) < SMALLEST:
        centre = (int(columns.mean()), int(rows.mean()))
        cv2.circle(edge, centre, SMALLEST, 1, 2)
    rim = cv2.dilate(edge, np.ones((3, 3), np.uint8))
    small[rim > 0] = RIM
    small[edge > 0] = OUTLINE
    return Image.fromarray(small)


def _fit(picture: Image.Image, side: int = SIDE) -> Image.Image:
    """The picture, its longer side ``side`` pixels."""
    scale = side / max(picture.size)
    size_wh = tuple(max(1, round(length * scale)) for length in picture.size)
    return picture.resize(size_wh, Image.Resampling.LANCZOS)
