"""Photos with label PNGs, and the names that these index."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from maskclip.datasets.description import COMMAS, load_description
from maskclip.datasets.label_files import (
    LabelledPhoto,
    check_sizes,
    load_truth,
    pair_photos,
)
from maskclip.datasets.prepared import IMAGES, INSTANCES, LABELS, PreparedDataset, find_prepared
from maskclip.names import parse_names, read_class_file
from maskclip.segmentation import ignore_label
from proposal.configuration import override_config

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelSettings:
    """How labels are read; ``--set data.short_side=512``."""

    short_side: int = 0  # photos and labels with a larger short side are resized to it; 0 = never
    commas: str = "keep"  # names with commas: keep them whole, take the first, or as synonyms

    def __post_init__(self) -> None:
        if self.commas not in COMMAS:
            raise ValueError(f"data.commas must be one of {', '.join(COMMAS)}, got {self.commas!r}")
        if self.short_side < 0:
            raise ValueError(f"data.short_side must be 0 or more, got {self.short_side}")


@dataclass(frozen=True)
class LabelledSet:
    """What is evaluated on."""

    title: str
    photos: tuple[LabelledPhoto, ...]
    names: tuple[str, ...]  # in label order, as metrics show them
    ignore: int
    settings: LabelSettings = LabelSettings()

    def __post_init__(self) -> None:
        parse_names(self.names)
        if 0 <= self.ignore < len(self.names):
            raise ValueError(
                f"the ignore label must not be one of the {len(self.names)} names' (0 to "
                f"{len(self.names) - 1}), got {self.ignore}: above 255 names it is 65535"
            )

    @property
    def spoken(self) -> tuple[str, ...]:
        """The names as the model is given them."""
        return tuple(COMMAS[self.settings.commas](name) for name in self.names)

    def load(self, photo: LabelledPhoto) -> tuple:
        """-> (H, W, 3) uint8 RGB, (H, W) int64 truth; errors as ``load_truth``."""
        return load_truth(photo, len(self.names), self.ignore, self.settings.short_side)

    def first(self, limit: int | None) -> LabelledSet:
        """The first so many photos, all by default; their sizes are checked.

        Raises:
            ValueError: no photo is asked for, or labels are not of their photo's size.
        """
        if limit is not None and limit < 1:
            raise ValueError(f"--limit must be at least 1, got {limit}")
        photos = self.photos[:limit]
        check_sizes(photos)
        return replace(self, photos=photos)


def open_folders(
    images: str,
    labels: str,
    classes_file: str,
    *,
    ignore: int | None = None,
    overrides: Sequence[str] = (),
) -> LabelledSet:
    """Folders of one's own -> LabelledSet; ``ignore`` is 255, above 255 names 65535.

    Raises:
        FileNotFoundError, ValueError: as ``pair_photos`` and ``read_class_file``.
    """
    names = tuple(read_class_file(classes_file))
    photos = tuple(pair_photos(images, labels))
    settings = override_config(LabelSettings(), overrides)
    ignore = ignore_label(len(names)) if ignore is None else ignore
    return LabelledSet(str(images), photos, names, ignore, settings)


def open_dataset(name: str, data_root: Path, overrides: Sequence[str] = ()) -> LabelledSet:
    """A prepared data set -> LabelledSet, with a warning where it is not whole.

    Raises:
        FileNotFoundError: there is no such data set, or it is not prepared.
        ValueError: it is only partly prepared.
    """
    prepared, settings = find_dataset(name, data_root)
    photos = tuple(pair_photos(prepared.folder / IMAGES, prepared.folder / LABELS))
    settings = override_config(settings, overrides)
    return LabelledSet(prepared.name, photos, prepared.names, prepared.ignore, settings)


def dataset_objects(name: str, data_root: Path) -> tuple[Path, Path]:
    """A prepared data set with instances -> its JSON, its folder of photos.

    Raises:
        FileNotFoundError: as ``open_dataset``; it has no instances.
    """
    prepared, _ = find_dataset(name, data_root)
    if not (prepared.folder / INSTANCES).is_file():
        raise FileNotFoundError(
            f"{prepared.folder} has no {INSTANCES}: lvis and coco_instances have objects, for "
            "others give --instances and --images"
        )
    return prepared.folder / INSTANCES, prepared.folder / IMAGES


def find_dataset(name: str, data_root: Path) -> tuple[PreparedDataset, LabelSettings]:
    """-> the prepared folder, how its labels are read; a warning where it is not whole."""
    stem, description = load_description(name)
    prepared = find_prepared(stem, data_root)
    if not prepared.is_whole:
        logger.warning(
            "%s has %d photos of %d: numbers on it compare with no published ones",
            prepared.folder,
            prepared.photos,
            prepared.expected,
        )
    return prepared, LabelSettings(prepared.short_side, description.commas)


def read_seen(path: str | Path, names: Sequence[str]) -> frozenset[int]:
    """A file of seen names, one a line -> their labels; case and spaces do not matter.

    Raises:
        ValueError: a name is none of ``names``.
        FileNotFoundError: there is no such file.
    """
    labels: dict[str, list[int]] = {}
    for label, name in enumerate(names):
        labels.setdefault(_key(name), []).append(label)
    seen = read_class_file(path)
    unknown = [name for name in seen if _key(name) not in labels]
    if unknown:
        raise ValueError(
            f"{path} names {unknown[0]!r} ({len(unknown)} of {len(seen)} such), which is not in "
            "the class list: write the seen names as there, one a line"
        )
    return frozenset(label for name in seen for label in labels[_key(name)])


def _key(name: str) -> str:
    return " ".join(name.split()).casefold()
