"""Whole photos with stuff and things: the validation photos of MSRC v2 in ``data/pretrain``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from labeling.held_out import IGNORE, read_unseen, seen_labels
from labeling.pretrain import read_index, read_mask
from maskclip.evaluation import Confusion
from maskclip.images import load_image
from maskclip.segmentor import Segmentor

SOURCE = "msrc_v2"


@dataclass(frozen=True)
class MsrcPhotos:
    """Photos with a name for every pixel, but for those of which nothing is known.

    The names are those of the masks' ids that label a region of the set: *human face* and *human
    body* are two, and *person*, their union, is none.
    """

    photos: tuple[tuple[Path, Path], ...]  # photo, mask
    names: tuple[str, ...]
    ids: tuple[int, ...]  # the masks' value of each name
    unseen: frozenset[str] = frozenset()

    @classmethod
    def load(cls, shared: str | Path, limit: int | None = None) -> MsrcPhotos:
        """The first ``limit`` (all by default) photos of the split val."""
        folder = Path(shared) / "data" / "pretrain"
        rows = [row for row in read_index(folder) if row["source"] == SOURCE]
        used = {row["label"] for row in rows}
        table = json.loads((folder / "mask_ids.json").read_text(encoding="utf-8"))
        named = {int(key): name for key, name in table[SOURCE]["mask_ids"].items() if name in used}
        photos = {row["image"]: row["mask"] for row in rows if row["split"] == "val"}
        paths = [(folder / image, folder / mask) for image, mask in photos.items()]
        return cls(tuple(paths[:limit]), tuple(named.values()), tuple(named), read_unseen(shared))

    def truth(self, mask: Path) -> np.ndarray:
        """(H, W) int64 index into the names, 255 where a pixel has none."""
        labels = np.full(256, IGNORE, dtype=np.int64)
        labels[list(self.ids)] = range(len(self.ids))
        return labels[read_mask(mask)]


def measure_msrc(segmentor: Segmentor, photos: MsrcPhotos) -> dict[str, Any]:
    """Metrics over all names, the Segmentor's and those of the name that has most pixels."""
    said, constant = Confusion(photos.names, IGNORE), Confusion(photos.names, IGNORE)
    truths = [photos.truth(mask) for _, mask in photos.photos]
    pixels = np.bincount(np.concatenate([truth.ravel() for truth in truths]), minlength=256)
    commonest = int(pixels[:IGNORE].argmax())
    for (path, _), truth in tqdm(list(zip(photos.photos, truths, strict=True)), desc=SOURCE):
        said.add(segmentor.segment(load_image(path), photos.names).labels, truth)
        constant.add(np.full_like(truth, commonest), truth)
    seen = seen_labels(photos.names, photos.unseen)
    about = {"photos": len(photos.photos)}
    return {
        "model": said.metrics(seen) | about,
        f"always {photos.names[commonest]}": constant.metrics(seen) | about,
    }
