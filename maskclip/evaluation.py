"""How well label maps agree with the truth, as the benchmarks count it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Confusion:
    """What was said (columns) where what is true (rows), over all photos added.

    C: names. ``counts`` is (C, C + 1) int64; its last column counts pixels of which nothing was
    said (ignore labels in the prediction), which are wrong for their true name.
    """

    def __init__(self, names: Sequence[str], ignore: int = 255) -> None:
        """``ignore`` is the value of the truth that is not counted; above 255 names use 65535."""
        self.names = tuple(names)
        self.ignore = ignore
        if not self.names or 0 <= ignore < len(self.names):
            raise ValueError(
                f"expected at least one name and an ignore label above their indices, got"
                f" {len(self.names)} names and {ignore}"
            )
        self.counts = np.zeros((len(self.names), len(self.names) + 1), dtype=np.int64)

    def add(self, labels: np.ndarray, truth: np.ndarray) -> None:
        """(H, W) integers said and true, indices into the names.

        Raises:
            ValueError: the shapes differ, or the truth holds a value that is no name nor ignore.
        """
        if labels.shape != truth.shape:
            raise ValueError(f"labels must be {truth.shape} like the truth, got {labels.shape}")
        count = len(self.names)
        counted = truth != self.ignore
        said, true = labels[counted].astype(np.int64), truth[counted].astype(np.int64)
        if len(true) and not 0 <= int(true.min()) <= int(true.max()) < count:
            strange = sorted(set(true[(true < 0) | (true >= count)].tolist()))[:5]
            raise ValueError(
                f"the truth must hold 0 to {count - 1} or {self.ignore} (ignore), got {strange}"
            )
        said = np.where((said < 0) | (said >= count), count, said)
        cells = np.bincount(true * (count + 1) + said, minlength=self.counts.size)
        self.counts += cells.reshape(self.counts.shape)

    def metrics(self) -> dict[str, Any]:
        """All in percent: mIoU, mIoU_union, fwIoU, mACC, pACC, per_class; and counted ``pixels``.

        ``mIoU`` and ``mACC`` average over names present in the truth, ``mIoU_union`` over names
        present in the truth or the prediction. ``per_class`` holds IoU and accuracy of these; the
        accuracy of a name that is not in the truth is None. All are 0 where nothing was counted.
        """
        hits = np.diagonal(self.counts)  # (C,)
        true = self.counts.sum(axis=1)  # (C,)
        said = self.counts[:, :-1].sum(axis=0)  # (C,)
        union = true + said - hits
        iou = 100 * hits / np.maximum(union, 1)
        accuracy = 100 * hits / np.maximum(true, 1)
        present, either = true > 0, union > 0
        pixels = int(true.sum())
        return {
            "mIoU": _mean(iou[present]),
            "mIoU_union": _mean(iou[either]),
            "fwIoU": float((iou * true).sum() / max(pixels, 1)),
            "mACC": _mean(accuracy[present]),
            "pACC": float(100 * hits.sum() / max(pixels, 1)),
            "pixels": pixels,
            "per_class": {
                self.names[index]: {
                    "IoU": float(iou[index]),
                    "ACC": float(accuracy[index]) if present[index] else None,
                }
                for index in np.flatnonzero(either)
            },
        }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
