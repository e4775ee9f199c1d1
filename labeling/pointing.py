"""Whether a mask lies on the object that its noun names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from labeling.word_lists import DATA, read_words
from maskclip.annotations import AnnotatedPhoto

OVERLAP = 0.5  # IoU from which a mask is on an object


def coco_names_of_nouns(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """COCO's names -> noun: the names it may mean, by ``labeling/data/coco_synonyms.txt``.

    Lines of the table for other names than these are left out.
    """
    meanings = {name: (name,) for name in names}
    for line in read_words(DATA / "coco_synonyms.txt"):
        name, _, nouns = line.partition(":")
        if name not in names:
            continue
        for noun in filter(None, (noun.strip() for noun in nouns.split(","))):
            if name not in meanings.get(noun, ()):
                meanings[noun] = (*meanings.get(noun, ()), name)
    return meanings


@dataclass(frozen=True)
class Hit:
    """How one mask meets the objects of one name. M: these objects, crowds included."""

    instance_iou: float  # the best of the M
    union_iou: float  # with all of them as one
    pointed: bool  # the mask's innermost point lies in one of them

    @property
    def on_instance(self) -> bool:
        """Whether it is one of the objects."""
        return self.instance_iou >= OVERLAP

    @property
    def on_union(self) -> bool:
        """Whether it is all of them together."""
        return self.union_iou >= OVERLAP


def judge_mask(mask: np.ndarray, objects: np.ndarray) -> Hit:
    """(H, W) bool with at least one pixel, (M, H, W) bool -> how they meet; M is 1 or more."""
    if mask.shape != objects.shape[1:] or not len(objects):
        got = f"{mask.shape} and {objects.shape}"
        raise ValueError(f"expected a mask (H, W) and one or more objects (M, H, W), got {got}")
    row, column = innermost_point(mask)
    shared = (objects & mask).sum(axis=(1, 2))  # (M,)
    unions = (objects | mask).sum(axis=(1, 2))  # (M,)
    together = objects.any(axis=0)  # (H, W)
    union_iou = (together & mask).sum() / (together | mask).sum()
    return Hit(float((shared / unions).max()), float(union_iou), bool(together[row, column]))


def innermost_point(mask: np.ndarray) -> tuple[int, int]:
    """(H, W) bool with at least one pixel -> row, column farthest from what is outside.

    The border of the photo counts as outside.
    """
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), mask.shape)
    return int(row), int(column)


def objects_of(photo: AnnotatedPhoto, names: Collection[str]) -> np.ndarray:
    """The masks (M, H, W) bool of a photo's objects of these names; M may be 0."""
    masks = [one.mask for one in photo.instances if one.name in names]
    return np.stack(masks) if masks else np.zeros((0, *photo.size_hw), dtype=bool)
