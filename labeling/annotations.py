"""Ground truth of COCO instances as mask-noun pairs."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskclip.pairs import Pair
from proposal.data.coco import decode_segmentation


@dataclass(frozen=True)
class Instance:
    """One object of a photo."""

    mask: np.ndarray  # (H, W) bool
    name: str
    crowd: bool
    stated_area: float = 0.0  # as the file has it; COCO sorts sizes by it


@dataclass(frozen=True)
class AnnotatedPhoto:
    """A photo with its objects, in the order of the file."""

    file_name: str
    size_hw: tuple[int, int]
    instances: tuple[Instance, ...]


def photo_key(name: str) -> str:
    """What says that two files are the same COCO photo: its number, without zeros and suffix."""
    stem = Path(name).stem
    return str(int(stem)) if stem.isdecimal() else stem


def read_photo_list(path: str | Path) -> frozenset[str]:
    """A file with one photo name a line -> the keys of these photos."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return frozenset(photo_key(line.strip()) for line in lines if line.strip())


def coco_names(instances: str | Path) -> list[str]:
    """The category names of a COCO instances file, by category id."""
    categories = _read_json(instances)["categories"]
    return [category["name"] for category in sorted(categories, key=lambda one: one["id"])]


def coco_photos(
    instances: str | Path, wanted: Callable[[str], bool] = bool
) -> Iterator[AnnotatedPhoto]:
    """The photos of a COCO instances file whose key (``photo_key``) is ``wanted``, with masks.

    Masks without a pixel are left out.
    """
    content = _read_json(instances)
    names = {category["id"]: category["name"] for category in content["categories"]}
    by_photo: dict[int, list[dict]] = {photo["id"]: [] for photo in content["images"]}
    for annotation in content["annotations"]:
        by_photo[annotation["image_id"]].append(annotation)
    for photo in content["images"]:
        if not wanted(photo_key(photo["file_name"])):
            continue
        size_hw = photo["height"], photo["width"]
        found = [
            Instance(
                mask,
                names[annotation["category_id"]],
                crowd=bool(annotation.get("iscrowd")),
                stated_area=float(annotation.get("area", mask.sum())),
            )
            for annotation in by_photo[photo["id"]]
            if (mask := segmentation_mask(annotation["segmentation"], size_hw)).any()
        ]
        yield AnnotatedPhoto(photo["file_name"], size_hw, tuple(found))


def coco_pairs(instances: str | Path, leave_out: Collection[str] = ()) -> Iterator[Pair]:
    """A pair for every mask with its category's name; crowds and photos of ``leave_out`` are not.

    ``leave_out`` holds photo keys (``photo_key``). ``proposal`` is the mask's place among the
    photo's masks, crowds not counted.
    """
    for photo in coco_photos(instances, lambda key: key not in leave_out):
        single = [instance for instance in photo.instances if not instance.crowd]
        for index, instance in enumerate(single):
            yield Pair.from_mask(
                instance.mask, image=photo.file_name, noun=instance.name, proposal=index
            )


def segmentation_mask(segmentation: list | dict, size_hw: tuple[int, int]) -> np.ndarray:
    """COCO polygons, uncompressed or compressed RLE -> (H, W) bool; lines have no pixel."""
    if isinstance(segmentation, list):
        segmentation = [polygon for polygon in segmentation if len(polygon) >= 6]
        if not segmentation:
            return np.zeros(size_hw, dtype=bool)
    return decode_segmentation(segmentation, size_hw)


def _read_json(path: str | Path) -> dict[str, Any]:
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    missing = [key for key in ("images", "annotations", "categories") if key not in content]
    if missing:
        raise ValueError(f"{path} must be COCO instances JSON, it lacks {missing}")
    return content
