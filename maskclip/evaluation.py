"""How well label maps agree with the truth, as the benchmarks count it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
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
        self.add_cells(self.count(labels, truth))

    def count(self, labels: np.ndarray, truth: np.ndarray) -> list[tuple[int, int, int]]:
        """As ``add``, without adding: (true name, said name or C for nothing, pixels), sorted."""
        if labels.shape != truth.shape:
            raise ValueError(f"labels must be {truth.shape} like the truth, got {labels.shape}")
        columns = len(self.names) + 1
        counted = truth != self.ignore
        said, true = labels[counted].astype(np.int64), truth[counted].astype(np.int64)
        self._check(true)
        said = np.where((said < 0) | (said >= columns - 1), columns - 1, said)
        cells, pixels = np.unique(true * columns + said, return_counts=True)
        rows, places = np.divmod(cells, columns)
        return list(zip(rows.tolist(), places.tolist(), pixels.tolist(), strict=True))

    def add_cells(self, cells: Iterable[tuple[int, int, int]]) -> None:
        """Add what ``count`` gave, of this or of another process."""
        for true, said, pixels in cells:
            self.counts[true, said] += pixels

    def metrics(self, seen: Collection[int] | None = None) -> dict[str, Any]:
        """All in percent: mIoU, mIoU_union, fwIoU, mACC, pACC, per_class; and counted ``pixels``.

        ``mIoU`` and ``mACC`` average over names present in the truth, ``mIoU_union`` over names
        present in the truth or the prediction. ``per_class`` holds IoU and accuracy of these; the
        accuracy of a name that is not in the truth is None. All are 0 where nothing was counted.
        With the indices of the ``seen`` names also ``seen_mIoU``, ``unseen_mIoU`` (of the others)
        and ``hIoU``, their harmonic mean; None where the truth holds none of these names.
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
            **({} if seen is None else _split_mean(iou, present, seen)),
            "pixels": pixels,
            "per_class": {
                name: {
                    "IoU": float(iou[index]),
                    "ACC": float(accuracy[index]) if present[index] else None,
                }
                for index, name in enumerate(unique_keys(self.names))
                if either[index]
            },
        }

    def _check(self, true: np.ndarray) -> None:
        count = len(self.names)
        if len(true) and not 0 <= int(true.min()) <= int(true.max()) < count:
            strange = sorted(set(true[(true < 0) | (true >= count)].tolist()))[:5]
            raise ValueError(
                f"the truth must hold 0 to {count - 1} or {self.ignore} (ignore), got {strange}"
            )


def unique_keys(names: Sequence[str]) -> list[str]:
    """The names, those that a list holds several times followed by their label."""
    times = Counter(names)
    return [f"{name} (label {i})" if times[name] > 1 else name for i, name in enumerate(names)]


def _split_mean(
    iou: np.ndarray, present: np.ndarray, seen: Collection[int]
) -> dict[str, float | None]:
    is_seen = np.isin(np.arange(len(iou)), list(seen))
    known, new = iou[present & is_seen], iou[present & ~is_seen]
    means = [float(values.mean()) if len(values) else None for values in (known, new)]
    both = None if None in means else 2 * means[0] * means[1] / max(sum(means), 1e-12)
    return {"seen_mIoU": means[0], "unseen_mIoU": means[1], "hIoU": both}


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
