"""COCO's panoptic format: a JSON of segments beside PNGs of their numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from proposal.data.annotation import Annotation, annotate


@dataclass(frozen=True)
class PanopticPhoto:
    """One photo with its segments, not yet decoded."""

    path: Path
    segments_png: Path
    segments: tuple[dict[str, Any], ...]
    categories: dict[int, int]  # the file's category ids -> index into its names
    unlabelled: str = "ignore"  # what pixels of no segment are taken for

    @property
    def stem(self) -> str:
        """The photo's name without its ending."""
        return self.path.stem

    @property
    def files(self) -> tuple[Path, ...]:
        """What is read for this photo alone."""
        return (self.path, self.segments_png)

    def annotation(self) -> Annotation:
        """A mask for each segment; crowds are ignored, as are pixels of no segment if so asked.

        Raises:
            OSError: the PNG cannot be read.
            ValueError: it is no RGB picture.
        """
        ids = read_ids(self.segments_png)
        plain = [each for each in self.segments if not each.get("iscrowd", 0)]
        crowds = [each["id"] for each in self.segments if each.get("iscrowd", 0)]
        if self.unlabelled == "ignore":
            crowds.append(0)
        masks = ids[None] == np.array([each["id"] for each in plain], dtype=np.int64)[:, None, None]
        categories = np.array([self.categories[each["category_id"]] for each in plain], np.int64)
        return annotate(masks, categories, ignored=np.isin(ids, crowds))


def read_panoptic(
    segments: Path, pngs: Path, images: Path, *, unlabelled: str = "ignore"
) -> tuple[list[PanopticPhoto], tuple[str, ...]]:
    """A panoptic JSON, its folder of PNGs, the photos -> those annotated, and the names.

    Raises:
        FileNotFoundError: the file or a folder is missing.
        ValueError: the file is no panoptic JSON.
    """
    if not segments.is_file():
        raise FileNotFoundError(f"there is no COCO panoptic file {segments}")
    for folder, kind in ((pngs, "panoptic PNGs"), (images, "photos")):
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder of {kind} {folder}")
    try:
        content = json.loads(segments.read_text(encoding="utf-8"))
        known = sorted(content["categories"], key=lambda each: each["id"])
        index = {each["id"]: place for place, each in enumerate(known)}
        files = {photo["id"]: photo["file_name"] for photo in content["images"]}
        photos = [
            PanopticPhoto(
                images / files[each["image_id"]],
                pngs / each["file_name"],
                tuple(each["segments_info"]),
                index,
                unlabelled,
            )
            for each in content["annotations"]
        ]
        return photos, tuple(each["name"] for each in known)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{segments} is no COCO panoptic JSON: {error!r}") from error


def read_ids(path: Path) -> np.ndarray:
    """A panoptic PNG -> (H, W) int64 segment numbers, R + 256 G + 65536 B; 0 = no segment."""
    try:
        with Image.open(path) as picture:
            colours = np.array(picture)
    except OSError as error:
        raise OSError(f"cannot read the panoptic PNG {path}: {error}") from error
    if colours.ndim != 3 or colours.shape[2] < 3:
        raise ValueError(f"a panoptic PNG must be RGB, got {colours.shape}: {path}")
    return colours[..., :3].astype(np.int64) @ np.array([1, 256, 65536])
