"""Ready masks of one photo, from the files that hold them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from proposal.data.coco import decode_segmentation
from proposal.data.regions import read_map, split_map
from proposal.json_content import read_json

BROKEN = (KeyError, TypeError, ValueError, AttributeError, IndexError)  # what damaged content makes
Regions = tuple[np.ndarray, np.ndarray]  # masks (Q, h, w) bool, scores (Q,)


def read_region_png(path: Path, _: tuple[int, int]) -> Regions:
    """A label map: each value but 0 is a region, each with score 1.

    Raises:
        OSError, ValueError: as ``read_map``.
    """
    masks = split_map(read_map(path))
    return masks, np.ones(len(masks))


def read_region_json(path: Path, photo_hw: tuple[int, int]) -> Regions:
    """What ``predict`` writes (``segments``), SA-1B's files (``annotations``), or a list of masks.

    A mask is a COCO RLE, compressed or not, or polygons; it may lie in ``mask`` or
    ``segmentation`` beside its ``score``. ``{"masks": [...], "scores": [...]}`` does, too.

    Raises:
        ValueError: the file holds something else.
    """
    content = read_json(path)
    image = _image_of(content, path)
    try:
        size_hw = (image["height"], image["width"]) if "height" in image else photo_hw
        if isinstance(content, dict):
            key = next(key for key in ("segments", "annotations", "masks") if key in content)
            scores = content.get("scores")
            items = content[key]
        else:
            items, scores = content, None
        masks = decode_masks(items, size_hw)
        scores = [score_of(item) for item in items] if scores is None else scores
        return masks, np.array(scores, dtype=np.float64).reshape(len(masks))
    except StopIteration:
        raise ValueError(
            f"{path} must be a list of masks or have segments, annotations or masks, it has "
            f"{', '.join(content) or 'nothing'}"
        ) from None
    except BROKEN as error:
        raise ValueError(f"{path} holds no COCO masks of one photo: {error!r}") from error


def read_region_npz(path: Path, _: tuple[int, int]) -> Regions:
    """What ``predict --save masks`` writes: ``masks`` (Q, H, W) and, if there are, ``scores`` (Q,).

    Raises:
        ValueError: the file holds something else, or Python objects.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            masks = content["masks"]
            scores = content["scores"] if "scores" in content else np.ones(len(masks))
    except (zipfile.BadZipFile, EOFError, *BROKEN) as error:
        raise ValueError(
            f"{path} holds no masks as predict --save masks writes: {error}"
        ) from error
    if masks.ndim != 3 or scores.shape != masks.shape[:1]:
        raise ValueError(
            f"{path} must hold masks (Q, H, W) and scores (Q,), got {masks.shape} and "
            f"{scores.shape}"
        )
    return masks.astype(bool), scores


def decode_masks(items: Sequence[Any], size_hw: tuple[int, int]) -> np.ndarray:
    """Masks in COCO's forms -> (Q, h, w) bool; ``size_hw`` is that of polygons, and of no mask."""
    masks = [_decode(item, size_hw) for item in items]
    return np.stack(masks) if masks else np.zeros((0, *size_hw), dtype=bool)


def score_of(item: Any) -> float:
    """An item's own score, else SAM's guess of its quality, else 1."""
    if not isinstance(item, Mapping):
        return 1.0
    return float(item.get("score", item.get("predicted_iou", 1.0)))


def _image_of(content: Any, path: Path) -> dict[str, Any]:
    """What a file says of its photo, which is nothing in lists of masks."""
    if not isinstance(content, dict):
        return {}
    images = content.get("images", [content.get("image", {})])
    if len(images) != 1:
        raise ValueError(
            f"{path} must be about one photo, it is about {len(images)}: give it itself, "
            f"files:{path}"
        )
    return images[0]


def _decode(item: Any, size_hw: tuple[int, int]) -> np.ndarray:
    try:
        return decode_segmentation(_segmentation(item), size_hw)
    except Exception as error:  # pycocotools raises Exception itself
        raise ValueError(f"a mask cannot be decoded ({error!r})") from error


def _segmentation(item: Any) -> Any:
    if isinstance(item, list) or "counts" in item:
        return item
    return item["mask"] if "mask" in item else item["segmentation"]
