"""COCO-format instances (LVIS's, too) as masks."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle

from proposal.data.annotation import Annotation, annotate


@dataclass(frozen=True)
class CocoPhoto:
    """One photo of a COCO file with its annotations, not yet decoded."""

    path: Path
    size_hw: tuple[int, int]
    annotations: tuple[dict[str, Any], ...]  # crowds included
    categories: dict[int, int] = field(default_factory=dict)  # ids -> index into the file's names

    @property
    def stem(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def files(self) -> tuple[Path, ...]:
        """What is read for this photo alone."""
        return (self.path,)

    def annotation(self) -> Annotation:
        """A mask for each annotation that is no crowd; crowds are ignored."""
        plain = [a for a in self.annotations if not a.get("iscrowd", 0)]
        categories = [self.categories.get(a.get("category_id", -1), 0) for a in plain]
        return annotate(
            self.masks(),
            np.array(categories, dtype=np.int64),
            areas=self.areas(),
            ignored=self.crowds().any(axis=0),
        )

    def masks(self) -> np.ndarray:
        """(M, H, W) bool: one mask for each annotation that is no crowd."""
        return self._decode([a for a in self.annotations if not a.get("iscrowd", 0)])

    def crowds(self) -> np.ndarray:
        """(M, H, W) bool: the crowd regions, which recall ignores."""
        return self._decode([a for a in self.annotations if a.get("iscrowd", 0)])

    def areas(self) -> np.ndarray:
        """(M,) float: the areas that the file states for ``masks``, by which COCO sorts sizes."""
        plain = [a for a in self.annotations if not a.get("iscrowd", 0)]
        return np.array([float(a["area"]) for a in plain])

    def _decode(self, annotations: list[dict[str, Any]]) -> np.ndarray:
        masks = [decode_segmentation(a["segmentation"], self.size_hw) for a in annotations]
        return np.stack(masks) if masks else np.zeros((0, *self.size_hw), dtype=bool)


def read_coco(instances: Path, images: Path) -> list[CocoPhoto]:
    """The photos of a COCO instances file, in its order; those without annotations too.

    Raises:
        FileNotFoundError: the file or the photos' folder is missing.
        ValueError: the file is no COCO instances JSON.
    """
    return read_named_coco(instances, images)[0]


def read_named_coco(instances: Path, images: Path) -> tuple[list[CocoPhoto], tuple[str, ...]]:
    """As ``read_coco``, with the names of the categories by rising id."""
    if not instances.is_file():
        raise FileNotFoundError(f"there is no COCO instances file {instances}")
    if not images.is_dir():
        raise FileNotFoundError(f"there is no folder of photos {images}")
    try:
        content = json.loads(instances.read_text(encoding="utf-8"))
        known = sorted(content.get("categories", []), key=lambda each: each["id"])
        index = {each["id"]: place for place, each in enumerate(known)}
        by_image = defaultdict(list)
        for annotation in content["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        photos = [
            CocoPhoto(
                find_photo(photo, images),
                (photo["height"], photo["width"]),
                tuple(by_image[photo["id"]]),
                index,
            )
            for photo in content["images"]
        ]
        return photos, tuple(each["name"] for each in known)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{instances} is no COCO instances JSON: {error!r}") from error


def find_photo(photo: dict[str, Any], images: Path) -> Path:
    """Where an entry's photo is: by its file_name, else (LVIS) as its coco_url ends.

    LVIS states no file_name, or COCO's of 2014, while the photos lie as ``train2017/….jpg``.
    """
    url = Path(photo.get("coco_url", ""))
    places = [photo["file_name"]] if "file_name" in photo or not url.name else []
    places += [f"{url.parent.name}/{url.name}", url.name] if url.name else []
    return next((images / each for each in places if (images / each).is_file()), images / places[0])


def decode_segmentation(segmentation: Any, size_hw: tuple[int, int]) -> np.ndarray:
    """Polygons, or an RLE compressed or not -> (H, W) bool."""
    return rle.decode(encode_segmentation(segmentation, size_hw)).astype(bool)


def encode_segmentation(segmentation: Any, size_hw: tuple[int, int]) -> dict[str, Any]:
    """Polygons, or an RLE compressed or not -> a compressed RLE; points and lines have no pixel.

    Raises:
        ValueError: a polygon has half a point.
    """
    if isinstance(segmentation, list):
        if any(len(polygon) % 2 for polygon in segmentation):
            raise ValueError("a polygon must be a list x, y, x, y, ..., got an odd number of them")
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        if not polygons:
            return rle.encode(np.zeros(size_hw, dtype=np.uint8, order="F"))
        return rle.merge(rle.frPyObjects(polygons, *size_hw))
    if isinstance(segmentation["counts"], list):
        return rle.frPyObjects(segmentation, *size_hw)
    return segmentation
