"""COCO-format instances as class-agnostic masks."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle


@dataclass(frozen=True)
class CocoPhoto:
    """One photo of a COCO file with its annotations, not yet decoded."""

    path: Path
    size_hw: tuple[int, int]
    annotations: tuple[dict[str, Any], ...]  # crowds included

    @property
    def stem(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

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
    if not instances.is_file():
        raise FileNotFoundError(f"there is no COCO instances file {instances}")
    if not images.is_dir():
        raise FileNotFoundError(f"there is no folder of photos {images}")
    try:
        content = json.loads(instances.read_text(encoding="utf-8"))
        by_image = defaultdict(list)
        for annotation in content["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        return [
            CocoPhoto(
                images / photo["file_name"],
                (photo["height"], photo["width"]),
                tuple(by_image[photo["id"]]),
            )
            for photo in content["images"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{instances} is no COCO instances JSON: {error!r}") from error


def decode_segmentation(segmentation: Any, size_hw: tuple[int, int]) -> np.ndarray:
    """Polygons, or an RLE compressed or not -> (H, W) bool."""
    return rle.decode(encode_segmentation(segmentation, size_hw)).astype(bool)


def encode_segmentation(segmentation: Any, size_hw: tuple[int, int]) -> dict[str, Any]:
    """Polygons, or an RLE compressed or not -> a compressed RLE."""
    if isinstance(segmentation, list):
        return rle.merge(rle.frPyObjects(segmentation, *size_hw))
    if isinstance(segmentation["counts"], list):
        return rle.frPyObjects(segmentation, *size_hw)
    return segmentation
