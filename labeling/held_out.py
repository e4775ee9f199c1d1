"""The photos that nothing trains on (``splits/coco_val.txt``), with the truth of their pixels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from maskclip.annotations import AnnotatedPhoto, coco_names, coco_photos, read_photo_list
from maskclip.datasets.label_maps import paint_labels
from maskclip.evaluation import Confusion
from maskclip.images import load_image
from maskclip.names import read_class_file

IGNORE = 255


@dataclass(frozen=True)
class HeldOut:
    """The photos to measure on, with their instances, and the names of these."""

    photos: tuple[AnnotatedPhoto, ...]
    names: tuple[str, ...]
    images: Path
    unseen: frozenset[str] = frozenset()  # names that the twin is trained without

    @classmethod
    def load(cls, shared: str | Path, limit: int | None = None) -> HeldOut:
        """The first ``limit`` (all by default) photos of ``splits/coco_val.txt``."""
        data = Path(shared) / "data"
        if not data.is_dir():
            raise FileNotFoundError(f"expected a folder that holds data/, got {shared}")
        wanted = read_photo_list(data / "splits" / "coco_val.txt")
        instances = data / "coco" / "instances.json"
        photos = islice(coco_photos(instances, wanted.__contains__), limit)
        return cls(
            tuple(photos),
            tuple(coco_names(instances)),
            data / "coco" / "images",
            read_unseen(shared),
        )

    def each(self, title: str) -> Iterator[tuple[np.ndarray, AnnotatedPhoto]]:
        """Every photo (H, W, 3) uint8 RGB with its annotations, with a progress bar."""
        for photo in tqdm(self.photos, desc=title, unit="photo"):
            yield load_image(self.images / photo.file_name), photo


def read_unseen(shared: str | Path) -> frozenset[str]:
    """The names of ``splits/coco_unseen.txt``."""
    return frozenset(read_class_file(Path(shared) / "data" / "splits" / "coco_unseen.txt"))


def seen_labels(names: Sequence[str], unseen: Collection[str]) -> frozenset[int]:
    """The indices of the names that are not among the unseen ones."""
    return frozenset(index for index, name in enumerate(names) if name not in unseen)


def commonest_label(held_out: HeldOut) -> int:
    """The index of the name that has most pixels."""
    pixels = np.zeros(len(held_out.names), dtype=np.int64)
    for photo in held_out.photos:
        labels = truth_labels(photo, held_out.names)
        pixels += np.bincount(labels[labels != IGNORE], minlength=len(pixels))
    return int(pixels.argmax())


def score_labels(
    segment: Callable[[np.ndarray], np.ndarray],
    held_out: HeldOut,
    names: Sequence[str],
    seen: Collection[int] | None = None,
) -> dict[str, Any]:
    """``segment``: (H, W, 3) uint8 RGB -> (H, W) indices into ``names``; its metrics."""
    confusion = Confusion(names, IGNORE)
    for image, photo in held_out.each(f"{len(names)} names"):
        confusion.add(segment(image), truth_labels(photo, names))
    return confusion.metrics(seen)


def truth_labels(photo: AnnotatedPhoto, names: Sequence[str]) -> np.ndarray:
    """(H, W) int64 true index into ``names``, 255 where no instance of these lies uppermost."""
    single = [one for one in photo.instances if not one.crowd]
    labels = [names.index(one.name) if one.name in names else IGNORE for one in single]
    return paint_labels([one.mask for one in single], labels, photo.size_hw, IGNORE)
