"""Which photos stage 1 learns from, by configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from proposal.data.augment import AugmentConfig
from proposal.data.coco import CocoPhoto, read_coco
from proposal.data.photo import Photo, load_rgb, pack_photo
from proposal.data.regions import RegionPhoto, group_by_photo, read_map, read_regions, split_map

FREE_SHARE = 0.8  # of an extra region's pixels that must lie outside all instances


@dataclass(frozen=True)
class SourceConfig:
    """One set of photos with masks: COCO instances or region PNGs.

    Paths may start with a name of ``DataConfig.folders`` in braces: ``{shared}/data/coco/images``.
    """

    images: str = ""  # folder of photos
    instances: str | None = None  # a COCO instances JSON …
    regions: str | None = None  # … or a folder of region PNGs
    extra_regions: str | None = None  # region PNGs of the same photos, used outside the instances
    weight: float = 1.0  # how often its photos are drawn, all sources' weights making 1
    paste: bool = False  # whether its objects are pasted onto other photos

    def __post_init__(self) -> None:
        if (self.instances is None) == (self.regions is None):
            raise ValueError(
                "a data source must have either instances (a COCO JSON) or regions (a folder), "
                f"got instances={self.instances!r} and regions={self.regions!r}"
            )


@dataclass(frozen=True)
class DataConfig:
    """What is trained on, and how it is varied."""

    folders: dict[str, str] = field(default_factory=dict)  # names that paths may start with
    sources: tuple[SourceConfig, ...] = ()
    validation: SourceConfig | None = None  # COCO instances that --eval-only measures on
    held_out: str | None = None  # text file: photos trained on by nothing; validation keeps to it
    cache_short_side: int = 480  # photos are kept in memory at most this large; 0 = not kept
    sides: tuple[int, ...] = (512,)  # crop sides, each for an equal part of the training
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if not self.sides or min(self.sides) < 32:
            raise ValueError(f"sides must be crop sides of at least 32, got {self.sides}")


@dataclass(frozen=True)
class Source:
    """Photos of one set, not yet decoded."""

    config: SourceConfig
    photos: tuple[CocoPhoto | RegionPhoto, ...]
    extra: Mapping[str, list[RegionPhoto]]  # by the photo's stem

    def load(self, index: int, short_side: int) -> Photo:
        """Decode a photo with its masks; the short side is at most ``short_side``."""
        photo = self.photos[index]
        image, masks = load_rgb(photo.path), photo.masks()
        if masks.shape[1:] != image.shape[:2]:
            raise ValueError(
                f"the masks of {photo.path} must have its size {image.shape[:2]}, "
                f"got {masks.shape[1:]}"
            )
        for region in self.extra.get(photo.stem, ()):
            taken = np.concatenate([masks, photo.crowds()]).any(axis=0)
            masks = np.concatenate([masks, free_regions(read_map(region.regions), taken)])
        return pack_photo(image, masks, np.zeros(len(masks), dtype=np.int64), short_side)


def open_sources(config: DataConfig) -> list[Source]:
    """Every source's photos, but for those held out.

    Raises:
        FileNotFoundError: a file or folder is missing.
        ValueError: there is nothing to train on, or a file is not what it should be.
    """
    if not config.sources:
        raise ValueError("data.sources must name at least one set of photos with masks, got none")
    held_out = held_out_stems(config)
    sources = [_open(source, config, held_out) for source in config.sources]
    if sum(source.config.weight for source in sources) <= 0:
        raise ValueError("the weights of data.sources must not all be 0")
    return sources


def open_validation(config: DataConfig) -> list[CocoPhoto]:
    """The photos that recall is measured on: those held out, or all where none are."""
    if config.validation is None or config.validation.instances is None:
        raise ValueError("--eval-only needs data.validation with COCO instances, got none")
    photos = read_coco(
        expand(config.validation.instances, config), expand(config.validation.images, config)
    )
    held_out = held_out_stems(config)
    return [p for p in photos if not held_out or p.stem in held_out]


def held_out_stems(config: DataConfig) -> frozenset[str]:
    """Names without ending of the photos that nothing trains on."""
    if config.held_out is None:
        return frozenset()
    path = expand(config.held_out, config)
    if not path.is_file():
        raise FileNotFoundError(f"there is no list of held out photos {path}")
    lines = path.read_text(encoding="utf-8").splitlines()
    return frozenset(Path(line.strip()).stem for line in lines if line.strip())


def expand(path: str, config: DataConfig) -> Path:
    """A path with its ``{name}`` replaced."""
    try:
        return Path(path.format(**config.folders)).expanduser()
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"the path {path} needs data.folders to hold {error}; it holds {sorted(config.folders)}"
        ) from error


def free_regions(values: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """(H, W) region map, (H, W) bool taken -> (M, H, W) bool: regions mostly free, cut to it."""
    masks = split_map(values)
    free = masks & ~taken
    areas, free_areas = masks.sum(axis=(1, 2)), free.sum(axis=(1, 2))
    return free[free_areas >= FREE_SHARE * areas]


def _open(source: SourceConfig, config: DataConfig, held_out: frozenset[str]) -> Source:
    images = expand(source.images, config)
    extra: Mapping[str, list[RegionPhoto]] = {}
    photos: list[CocoPhoto] | list[RegionPhoto]
    if source.instances is not None:
        photos = [p for p in read_coco(expand(source.instances, config), images) if p.annotations]
        if source.extra_regions is not None:
            extra = group_by_photo(read_regions(expand(source.extra_regions, config), images))
    else:
        photos = read_regions(expand(source.regions, config), images)
    kept = tuple(photo for photo in photos if photo.stem not in held_out)
    if not kept:
        raise ValueError(f"the data source {source.instances or source.regions} has no photos left")
    missing = next((photo.path for photo in kept if not photo.path.is_file()), None)
    if missing is not None:
        raise FileNotFoundError(f"there is no photo {missing}, which {images} should hold")
    return Source(source, kept, extra)
