"""Ground truth of COCO instances as mask-noun pairs."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from maskclip.pairs import Pair
from proposal.data.coco import encode_segmentation, find_photo
from proposal.data.vocabulary import readable


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

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no COCO instances JSON.
    """
    for photo, found in _read_instances(instances, wanted):
        objects = [
            Instance(
                coco_mask.decode(rle).astype(bool),
                name,
                crowd=bool(annotation.get("iscrowd")),
                stated_area=float(annotation.get("area", coco_mask.area(rle))),
            )
            for annotation, name, rle in found
        ]
        yield AnnotatedPhoto(photo["file_name"], (photo["height"], photo["width"]), tuple(objects))


def coco_pairs(
    instances: str | Path, leave_out: Collection[str] = (), *, images: str | Path | None = None
) -> Iterator[Pair]:
    """A pair for every mask with its category's name; crowds and photos of ``leave_out`` are not.

    ``leave_out`` holds photo keys (``photo_key``). ``proposal`` is the mask's place among the
    photo's masks, crowds not counted. No mask is decoded, which would take most of the time.
    ``images``: the photos' folder, in which those of LVIS are looked for.
    """
    for photo, found in _read_instances(instances, lambda key: key not in leave_out):
        image = photo.get("file_name") or Path(photo["coco_url"]).name
        if images is not None:
            image = find_photo(photo, Path(images)).relative_to(images).as_posix()
        single = [(name, rle) for annotation, name, rle in found if not annotation.get("iscrowd")]
        for index, (name, rle) in enumerate(single):
            yield rle_pair(rle, image=image, noun=readable(name), proposal=index)


def rle_pair(rle: dict[str, Any], *, image: str, noun: str, proposal: int) -> Pair:
    """The pair of a COCO RLE with at least one pixel."""
    left, top, width, height = (int(side) for side in coco_mask.toBbox(rle))
    counts = rle["counts"]
    return Pair(
        image=image,
        image_id=Path(image).stem,
        height=int(rle["size"][0]),
        width=int(rle["size"][1]),
        noun=noun,
        box_xyxy=(left, top, left + width, top + height),
        area=int(coco_mask.area(rle)),
        mask=counts.encode() if isinstance(counts, str) else counts,
        proposal=proposal,
    )


def _read_instances(
    instances: str | Path, wanted: Callable[[str], bool]
) -> Iterator[tuple[dict, list[tuple[dict, str, dict]]]]:
    """Each wanted photo's entry, with the entry, name and RLE of each object that has pixels."""
    content = _read_json(instances)
    names = {category["id"]: category["name"] for category in content["categories"]}
    by_photo: dict[int, list[dict]] = {photo["id"]: [] for photo in content["images"]}
    for annotation in content["annotations"]:
        by_photo[annotation["image_id"]].append(annotation)
    for photo in content["images"]:
        if not wanted(photo_key(photo.get("file_name") or photo["coco_url"])):
            continue
        size_hw = photo["height"], photo["width"]
        yield (
            photo,
            [
                (annotation, names[annotation["category_id"]], rle)
                for annotation in by_photo[photo["id"]]
                if coco_mask.area(rle := encode_segmentation(annotation["segmentation"], size_hw))
            ],
        )


def _read_json(path: str | Path) -> dict[str, Any]:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no COCO instances file {path}: check the path")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be COCO instances JSON, it is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be COCO instances JSON, got a {type(content).__name__}")
    missing = [key for key in ("images", "annotations", "categories") if key not in content]
    if missing:
        raise ValueError(f"{path} must be COCO instances JSON, it lacks {missing}")
    return content
