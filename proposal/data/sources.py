"""Which photos stage 1 learns from, by configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from proposal.data.coco import CocoPhoto, read_named_coco
from proposal.data.label_maps import LabelPhoto, read_label_maps
from proposal.data.panoptic import PanopticPhoto, read_panoptic
from proposal.data.photo import IGNORED, Photo, load_rgb, pack_photo
from proposal.data.regions import (
    RegionPhoto,
    free_regions,
    group_by_photo,
    read_map,
    read_regions,
)
from proposal.data.source_config import DataConfig, SourceConfig, expand, held_out_stems
from proposal.data.vocabulary import join_names, labels_of, read_names, readable
from proposal.matcher import UNNAMED
from proposal.training_record import fingerprint

AnnotatedPhoto = CocoPhoto | PanopticPhoto | LabelPhoto | RegionPhoto


@dataclass(frozen=True)
class Source:
    """Photos of one set, not yet decoded."""

    config: SourceConfig
    photos: tuple[AnnotatedPhoto, ...]
    extra: Mapping[str, list[RegionPhoto]]  # by the photo's stem
    names: tuple[str, ...]  # of its categories
    read: tuple[Path, ...]  # files read when it was opened
    # (C,) of its names in the vocabulary, [UNNAMED] where it has none; without it all are "object"
    labels: np.ndarray | None = None

    def load(self, index: int, short_side: int) -> Photo:
        """Decode a photo with its masks; the short side is at most ``short_side``.

        What is ignored is the last mask, with the label IGNORED. Where names are learned, masks
        without one have the label UNNAMED.
        """
        photo = self.photos[index]
        image, found = load_rgb(photo.path), photo.annotation()
        if found.ignored.shape != image.shape[:2]:
            raise ValueError(
                f"the masks of {photo.path} must have its size {image.shape[:2]}, "
                f"got {found.ignored.shape}"
            )
        if self.config.per_category:
            found = found.per_category()
        masks, labels = found.masks, np.zeros(len(found.masks), dtype=np.int64)
        if self.labels is not None:
            labels = self.labels[found.categories]
        for region in self.extra.get(photo.stem, ()):
            taken = masks.any(axis=0) | found.ignored
            found_free = free_regions(read_map(region.regions), taken)
            nameless = np.full(len(found_free), 0 if self.labels is None else UNNAMED)
            masks, labels = np.concatenate([masks, found_free]), np.append(labels, nameless)
        if found.ignored.any():
            masks = np.concatenate([masks, found.ignored[None]])
            labels = np.append(labels, IGNORED)
        return pack_photo(image, masks, labels, short_side)


def open_sources(config: DataConfig, *, named: bool = False, partly: bool = False) -> list[Source]:
    """Every source's photos, but for those held out; named: with the labels of their names.

    partly: masks without names are allowed among them.

    Raises:
        FileNotFoundError: a file or folder is missing.
        ValueError: there is nothing to train on, a file is not what it should be, or a source
            that must have names has none.
    """
    if not config.sources:
        raise ValueError("data.sources must name at least one set of photos with masks, got none")
    held_out = held_out_stems(config)
    sources = [_open(source, config, held_out) for source in config.sources]
    if sum(source.config.weight for source in sources) <= 0:
        raise ValueError("the weights of data.sources must not all be 0")
    if not named:
        return sources
    vocabulary = training_names(config, sources, partly=partly)
    return [replace(source, labels=_labels(source, vocabulary)) for source in sources]


def training_names(
    config: DataConfig, sources: Sequence[Source], *, partly: bool = False
) -> tuple[str, ...]:
    """The C names of the training, in label order: ``data.names``, or all that sources have.

    Raises:
        ValueError: a source has none (``partly``: all have none).
    """
    if partly and not any(source.names for source in sources):
        raise ValueError(
            "proposer.classifier=both needs names for some masks, and no source of data.sources "
            "has any: add labels, instances or panoptic, or use classifier=objectness"
        )
    for source in sources:
        if not partly and (not source.names or source.config.extra_regions is not None):
            raise ValueError(
                f"proposer.classifier=text needs names for all masks, and {source.config.place} "
                "has masks without: use labels, instances or panoptic, or classifier=both"
            )
    if config.names is not None:
        return read_names(expand(config.names, config))
    return join_names([source.names for source in sources])


def _labels(source: Source, vocabulary: Sequence[str]) -> np.ndarray:
    """(C,) of a source's names; of one without names all masks have the category 0."""
    if not source.names:
        return np.array([UNNAMED], dtype=np.int64)
    return labels_of(source.names, vocabulary, source.config.place)


def open_validation(config: DataConfig) -> list[AnnotatedPhoto]:
    """The photos that recall is measured on: those held out, or all where none are."""
    if config.validation is None:
        raise ValueError("measuring needs data.validation, a set of photos with masks, got none")
    photos = _open(config.validation, config, frozenset()).photos
    held_out = held_out_stems(config)
    return [p for p in photos if not held_out or p.stem in held_out]


def fingerprint_data(config: DataConfig, sources: Sequence[Source]) -> dict[str, Any]:
    """What the training's data are, by source: see ``training_record.fingerprint``."""
    found = {
        f"data.sources.{number} ({source.config.place})": fingerprint(
            source.read, (file for photo in source.photos for file in photo.files)
        )
        for number, source in enumerate(sources)
    }
    lists = [expand(each, config) for each in (config.held_out, config.names) if each is not None]
    return found | ({"lists": fingerprint(lists)} if lists else {})


def _open(source: SourceConfig, config: DataConfig, held_out: frozenset[str]) -> Source:
    images, place = expand(source.images, config), expand(source.place, config)
    listed = () if source.names is None else read_names(expand(source.names, config))
    extra: Mapping[str, list[RegionPhoto]] = {}
    read = [place] if place.is_file() else []
    photos, names = OPENERS[source.kind](source, place, images, config, listed)
    if listed and len(names) not in (0, len(listed)):
        raise ValueError(
            f"{source.names} must hold {len(names)} names, one for each category of {place}, "
            f"got {len(listed)}"
        )
    if source.names is not None:
        read.append(expand(source.names, config))
    if source.extra_regions is not None:
        extra = group_by_photo(read_regions(expand(source.extra_regions, config), images))
        read += [each.regions for group in extra.values() for each in group]
    kept = tuple(photo for photo in photos if photo.stem not in held_out)
    if not kept:
        raise ValueError(f"the data source {source.place} has no photos left")
    missing = next((photo.path for photo in kept if not photo.path.is_file()), None)
    if missing is not None:
        raise FileNotFoundError(f"there is no photo {missing}, which {images} should hold")
    return Source(source, kept, extra, listed or tuple(map(readable, names)), tuple(read))


Opened = tuple[Sequence[AnnotatedPhoto], tuple[str, ...]]  # photos, names of the categories


def _open_instances(
    _source: SourceConfig, place: Path, images: Path, _config: DataConfig, _names: tuple[str, ...]
) -> Opened:
    photos, names = read_named_coco(place, images)
    return [photo for photo in photos if photo.annotations], names


def _open_panoptic(
    source: SourceConfig, place: Path, images: Path, config: DataConfig, _names: tuple[str, ...]
) -> Opened:
    pngs = place.with_suffix("")
    if source.panoptic_pngs is not None:
        pngs = expand(source.panoptic_pngs, config)
    return read_panoptic(place, pngs, images, unlabelled=source.unlabelled)


def _open_labels(
    source: SourceConfig, place: Path, images: Path, _config: DataConfig, names: tuple[str, ...]
) -> Opened:
    photos = read_label_maps(
        place,
        images,
        names,
        first_label=source.first_label,
        ignore_label=source.ignore_label,
        unlabelled=source.unlabelled,
    )
    return photos, names


def _open_regions(
    _source: SourceConfig, place: Path, images: Path, _config: DataConfig, _names: tuple[str, ...]
) -> Opened:
    return read_regions(place, images), ()


# A source's kind: how it is opened
OPENERS: dict[str, Callable[..., Opened]] = {
    "instances": _open_instances,
    "panoptic": _open_panoptic,
    "labels": _open_labels,
    "regions": _open_regions,
}
