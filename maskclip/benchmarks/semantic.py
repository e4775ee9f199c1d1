"""How well a model labels the pixels of a labelled set."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from maskclip.benchmarks.labelled_set import LabelledSet
from maskclip.benchmarks.labellers import (
    Labeller,
    ModelLabeller,
    Photo,
    SettingsLabeller,
    TrueClasses,
    TrueMasks,
)
from maskclip.benchmarks.model import Model
from maskclip.benchmarks.runner import Measure
from maskclip.datasets.label_files import LabelledPhoto
from maskclip.evaluation import Confusion
from proposal.configuration import override_config

ORACLES = {"masks": TrueMasks, "classes": TrueClasses}


@dataclass(frozen=True)
class Semantic:
    """Label maps against label PNGs; a record holds the counts of each setting.

    Raises:
        ValueError: an unknown oracle, or a search with one.
    """

    model: Model
    labelled: LabelledSet  # without its photos
    oracle: str | None = None
    variants: tuple[Mapping[str, Any], ...] = field(default=())  # settings that are tried

    def __post_init__(self) -> None:
        if self.oracle not in (None, *ORACLES):
            raise ValueError(f"--oracle must be masks or classes, got {self.oracle!r}")
        if self.oracle and self.variants:
            raise ValueError("--search needs the model's own masks and classes: leave --oracle out")

    def labeller(self, device: str) -> Labeller:
        """Load the model -> who labels."""
        segmentor, names = self.model.segmentor(device), self.labelled.spoken
        if self.oracle:
            return ORACLES[self.oracle](segmentor, names, self.labelled.ignore)
        if self.variants:
            configs = tuple(
                override_config(segmentor.config, [f"{key}={value}" for key, value in one.items()])
                for one in self.variants
            )
            return SettingsLabeller(segmentor, names, configs)
        return ModelLabeller(segmentor, names)

    def open(self, device: str) -> Measure:
        """Load the model -> a function from photos to their records."""
        labeller = self.labeller(device)
        return lambda photos: self._measure(labeller, photos)

    def read(self, photos: Sequence[LabelledPhoto]) -> list[Photo]:
        """Decode photos with their labels."""
        return [Photo(*self.labelled.load(photo), photo.stem) for photo in photos]

    def _measure(self, labeller: Labeller, photos: Sequence[LabelledPhoto]) -> list[Any]:
        confusion = Confusion(self.labelled.names, self.labelled.ignore)
        loaded = self.read(photos)
        return [
            [confusion.count(labels, photo.truth) for labels in maps]
            for photo, maps in zip(loaded, labeller.label(loaded), strict=True)
        ]


def add_up(records: Sequence[Any], labelled: LabelledSet, variant: int = 0) -> Confusion:
    """The records of ``Semantic`` -> the counts over all photos."""
    confusion = Confusion(labelled.names, labelled.ignore)
    for record in records:
        confusion.add_cells(record[variant])
    return confusion


def best_variant(
    records: Sequence[Any],
    labelled: LabelledSet,
    variants: Sequence[Mapping[str, Any]],
    seen: Collection[int] | None = None,
) -> tuple[int, list[dict[str, Any]]]:
    """-> the variant of the highest mIoU (of equals the first), a row of numbers for each."""
    rows = []
    for index, variant in enumerate(variants):
        metrics = add_up(records, labelled, index).metrics(seen)
        numbers = {key: value for key, value in metrics.items() if key != "per_class"}
        rows.append({**variant, **numbers})
    return max(range(len(rows)), key=lambda index: rows[index]["mIoU"]), rows
