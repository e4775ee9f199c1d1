"""Where an official download keeps its photos, its labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from maskclip.datasets.description import DatasetDescription, Layout
from maskclip.photo_files import ENDINGS

DEPTH = 3  # a layout begins in the source, or in a folder of it, or in a folder of that


@dataclass(frozen=True)
class Item:
    """One photo to prepare, with its label file where there is one."""

    stem: str
    photo: Path
    labels: Path | None = None


@dataclass(frozen=True)
class Found:
    """A layout that was found: its paths are those on the disk."""

    layout: Layout
    source: Path
    photos: Path
    labels: Path
    annotations: Path | None

    def items(self) -> tuple[list[Item], list[str]]:
        """-> photos with labels, sorted by stem; what is listed but missing, in words.

        Raises:
            FileNotFoundError: the list of the split is missing, nothing belongs together.
            ValueError: two files have the same stem.
        """
        layout = self.layout
        labels = by_stem(_files(self.labels, layout.label_end), layout.label_end, layout.prefix)
        photos = by_stem(_files(self.photos, layout.photo_end), layout.photo_end)
        wanted = sorted(self._listed() or labels)
        found = [
            Item(stem, photos[stem], labels[stem])
            for stem in wanted
            if stem in photos and stem in labels
        ]
        if not found:
            raise FileNotFoundError(
                f"{self.labels} and {self.photos} have no photo with labels: expected files "
                f"ending in {layout.label_end} and photos ending in {layout.photo_end or '.jpg'}"
            )
        missing = [f"photo {stem}" for stem in wanted if stem not in photos]
        return found, missing + [f"labels of {stem}" for stem in wanted if stem not in labels]

    def _listed(self) -> list[str]:
        if not self.layout.listed:
            return []
        path = find_below(self.source, self.layout.listed)
        if path is None:
            raise FileNotFoundError(
                f"{self.layout.listed}, which lists the photos of the split, is missing below "
                f"{self.source}: unpack the whole download"
            )
        lines = path.read_text(encoding="utf-8").splitlines()
        return [line.split()[0] for line in lines if line.strip()]


def find_layout(description: DatasetDescription, source: Path, split: str) -> Found:
    """The first of the data set's layouts that lies below ``source``.

    Raises:
        FileNotFoundError: there is none; the sentence says what is expected from where.
        ValueError: the data set has no such split.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"expected the folder of the download, there is none at {source}")
    if split not in description.splits:
        known = ", ".join(description.splits)
        raise ValueError(f"{description.title} has no split {split!r}: choose from {known}")
    wanted = []
    for template in description.layouts:
        layout = _of_split(template, description.splits[split])
        paths = (layout.photos, layout.labels, layout.annotations)
        places = [find_below(source, path) for path in paths]
        if all(place for path, place in zip(paths, places, strict=True) if path):
            photos, labels, annotations = places
            return Found(layout, source, photos or source, labels or source, annotations)
        lacking = [str(p) for p, place in zip(paths, places, strict=True) if p and not place]
        wanted.append(f"{' + '.join(filter(None, paths))} (missing: {', '.join(lacking)})")
    raise FileNotFoundError(
        f"{source} does not hold {description.title} ({split}): expected {' or '.join(wanted)}; "
        f"download {description.download}"
    )


def find_below(source: Path, path: str) -> Path | None:
    """``path`` below the source or one or two folders deeper; None where there is none."""
    if not path:
        return None
    bases = [source]
    if source.resolve().name == PurePosixPath(path).parts[0]:  # it is the path's first folder
        bases.append(source.resolve().parent)
    level = [source]
    for _ in range(DEPTH):
        for base in bases:
            if (base / path).exists():
                return base / path
        level = bases = [inner for folder in level for inner in _folders(folder)]
    return None


def by_stem(paths: Iterator[Path], end: str, prefix: str = "") -> dict[str, Path]:
    """Files by their names without ending; only those that start with ``prefix``.

    Raises:
        ValueError: two files have the same stem.
    """
    found: dict[str, Path] = {}
    for path in paths:
        if not path.name.startswith(prefix):
            continue
        stem = path.name.removesuffix(end) if end else path.stem
        twin = found.setdefault(stem, path)
        if twin is not path:
            raise ValueError(f"{twin} and {path} have the same stem {stem}: remove one of them")
    return found


def photo_files(folder: Path) -> Iterator[Path]:
    """Every photo in a folder and its subfolders."""
    return _files(folder, "")


def _files(folder: Path, end: str) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(names):
            if name.startswith("."):
                continue
            if name.endswith(end) if end else Path(name).suffix.lower() in ENDINGS:
                yield Path(place) / name


def _folders(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _of_split(layout: Layout, split: str) -> Layout:
    texts = {name: value for name, value in vars(layout).items() if isinstance(value, str)}
    return replace(layout, **{name: text.replace("{split}", split) for name, text in texts.items()})
