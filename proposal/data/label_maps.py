"""Label PNGs: maps whose values are indices into a list of names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from proposal.data.annotation import Annotation, annotate
from proposal.data.regions import read_map, read_regions


@dataclass(frozen=True)
class LabelPhoto:
    """One photo with its label map, not yet decoded. C: names."""

    path: Path
    labels: Path
    names: int  # C
    first_label: int = 0  # the value of the first name
    ignore_label: int = 255
    unlabelled: str = "ignore"  # what pixels below first_label, or of ignore_label, are taken for

    @property
    def stem(self) -> str:
        """The photo's name without its ending."""
        return self.path.stem

    @property
    def files(self) -> tuple[Path, ...]:
        """What is read for this photo alone."""
        return (self.path, self.labels)

    def values(self) -> np.ndarray:
        """(H, W) int64, the map as it is.

        Raises:
            OSError: the map cannot be read.
            ValueError: it has several channels, or a value that is no name's.
        """
        values = read_map(self.labels).astype(np.int64)
        last = self.first_label + self.names - 1
        strange = values[(values > last) & (values != self.ignore_label)]
        if len(strange):
            raise ValueError(
                f"{self.labels} must hold labels from {self.first_label} to {last} for the "
                f"{self.names} names, or {self.ignore_label}, got {strange.max()}"
            )
        return values

    def annotation(self) -> Annotation:
        """A mask for each name that is present, by rising label.

        Raises:
            OSError, ValueError: as ``values``.
        """
        values = self.values()
        unknown = (values == self.ignore_label) | (values < self.first_label)
        present = np.unique(values[~unknown])
        masks = values[None] == present[:, None, None]
        ignored = unknown if self.unlabelled == "ignore" else None
        return annotate(masks, present - self.first_label, ignored=ignored)


def read_label_maps(
    labels: Path,
    images: Path,
    names: tuple[str, ...],
    *,
    first_label: int = 0,
    ignore_label: int | None = None,
    unlabelled: str = "ignore",
) -> list[LabelPhoto]:
    """Photos with ``<stem>.png`` maps; no ignore label = 255, or 65535 above 255 names.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: there are no maps, or one fits no photo.
    """
    if ignore_label is None:
        ignore_label = 255 if len(names) <= 255 else 65535
    return [
        LabelPhoto(each.path, each.regions, len(names), first_label, ignore_label, unlabelled)
        for each in read_regions(labels, images)
    ]
