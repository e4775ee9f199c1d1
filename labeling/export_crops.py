"""Pairs as masked crops with a list, the form that trainers of CLIP read."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from labeling.pair_stream import count_rows, stream_rows
from maskclip.clip_config import ClipConfig
from maskclip.images import load_image
from maskclip.json_file import write_json
from maskclip.pairs import decode_mask, images_root
from proposal.whole_file import open_whole, write_whole

FORMATS = ("jpg", "png")
LIST = "crops.tsv"
FOLDER_SIZE = 10_000  # crops in one folder
QUALITY = 95  # of JPEG
COLUMNS = ("image", "height", "width", "noun", "box_xyxy", "mask")


def export_crops(folder: str | Path, output: str | Path, *, image_format: str = "jpg") -> Path:
    """Write every pair of ``folder`` as a masked crop below ``output``, and their list.

    A crop is the tight box of the mask at the photo's own resolution; outside the mask it has
    CLIP's mean colour. ``crops.tsv`` has the header ``filepath`` and ``title``, a tab between
    them: the crop's absolute path and the noun, as open_clip's csv data set reads it
    (``--csv-separator`` tab, its default). Files appear whole, the list last; stopped and started
    again, crops that are there are kept. One photo is in memory at a time. Returns the list.

    Raises:
        FileNotFoundError: the folder holds no pairs, or a photo of theirs is gone.
        ValueError: an unknown format; ``output`` holds other crops; a photo changed its size.
    """
    if image_format not in FORMATS:
        known = " or ".join(FORMATS)
        raise ValueError(f"crops are written as {known}, got {image_format!r}")
    output = Path(output).resolve()
    root = images_root(folder)
    rows = enumerate(stream_rows(folder, COLUMNS))
    total = count_rows(folder)
    _claim(output, folder, image_format)
    with open_whole(output / LIST) as file, tqdm(total=total, desc="crops", unit="pair") as bar:
        file.write(b"filepath\ttitle\n")
        for image, group in groupby(rows, key=lambda row: row[1]["image"]):
            for path, noun in _write_crops(root / image, group, output, image_format):
                title = " ".join(noun.split())
                file.write(f"{path}\t{title}\n".encode("utf-8", "backslashreplace"))
                bar.update()
    return output / LIST


def masked_crop(image: np.ndarray, row: dict[str, Any]) -> np.ndarray:
    """(H, W, 3) uint8 RGB photo, a pair of it -> (h, w, 3), its box with only the mask seen."""
    left, top, right, bottom = row["box_xyxy"]
    mask = decode_mask(row)
    if mask.shape != image.shape[:2]:
        raise ValueError(
            f"{row['image']} must be {mask.shape[1]} x {mask.shape[0]} pixels as when it was "
            f"labelled, got {image.shape[1]} x {image.shape[0]}: label it again"
        )
    fill = np.round(255 * np.array(ClipConfig().mean)).astype(np.uint8)  # (3,)
    inside = mask[top:bottom, left:right, None]  # (h, w, 1)
    return np.where(inside, image[top:bottom, left:right], fill)


def _write_crops(
    photo: Path, rows: Iterator[tuple[int, dict[str, Any]]], output: Path, image_format: str
) -> Iterator[tuple[Path, str]]:
    """The pairs of one photo, with their places among all -> the files, with their nouns."""
    image = None
    for place, row in rows:
        path = output / f"{place // FOLDER_SIZE:05d}" / f"{place:08d}.{image_format}"
        if not path.exists():
            image = load_image(photo) if image is None else image
            path.parent.mkdir(exist_ok=True)
            write_whole(path, _encode(masked_crop(image, row), image_format))
        yield path, row["noun"]


def _encode(crop: np.ndarray, image_format: str) -> bytes:
    content = io.BytesIO()
    if image_format == "png":
        Image.fromarray(crop).save(content, "PNG")
    else:
        Image.fromarray(crop).save(content, "JPEG", quality=QUALITY, subsampling=0)
    return content.getvalue()


def _claim(output: Path, folder: str | Path, image_format: str) -> None:
    """Write down whose crops these are; refuse a folder that holds those of another run."""
    run = hashlib.sha256((Path(folder) / "run.json").read_bytes()).hexdigest()
    content = {"pairs": str(Path(folder).resolve()), "run_sha256": run, "format": image_format}
    path = output / "export.json"
    output.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_json(path, content)
        return
    there = json.loads(path.read_text(encoding="utf-8"))
    if there != content:
        raise ValueError(
            f"{output} holds crops of {there.get('pairs')} as {there.get('format')}, which are "
            "others: give an empty folder, or remove it"
        )
