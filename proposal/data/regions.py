"""Region PNGs: maps in which each value but 0 is one region."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from proposal.data.annotation import Annotation, annotate

PHOTO_ENDINGS = (".jpg", ".jpeg", ".png")
FREE_SHARE = 0.8  # of an extra region's pixels that must lie outside all instances
STRETCHED = {"L;2": 85, "L;4": 17}  # Pillow makes grey values of 2 and 4 bits 0 to 255


@dataclass(frozen=True)
class RegionPhoto:
    """One photo with one of its region maps, not yet decoded."""

    path: Path
    regions: Path

    @property
    def stem(self) -> str:
        """The photo's name without its ending."""
        return self.path.stem

    @property
    def files(self) -> tuple[Path, ...]:
        """What is read for this photo alone."""
        return (self.path, self.regions)

    def masks(self) -> np.ndarray:
        """(M, H, W) bool."""
        return split_map(read_map(self.regions))

    def annotation(self) -> Annotation:
        """A mask for each region."""
        return annotate(self.masks())


def read_regions(regions: Path, images: Path) -> list[RegionPhoto]:
    """Photos with ``<stem>.png`` or ``<stem>_<annotator>.png`` maps, by the maps' names.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: there are no maps, or one fits no photo.
    """
    for folder, kind in ((regions, "region PNGs"), (images, "photos")):
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder of {kind} {folder}")
    photos = {p.stem: p for p in sorted(images.iterdir()) if p.suffix.lower() in PHOTO_ENDINGS}
    maps = sorted(regions.glob("*.png"))
    if not maps:
        raise ValueError(f"{regions} must hold region PNGs, found none")
    return [RegionPhoto(_photo_of(path, photos, images), path) for path in maps]


def read_map(path: Path) -> np.ndarray:
    """A region PNG of 8 bits, 16 bits or a palette -> (H, W) of its values.

    Raises:
        OSError: it cannot be read.
        ValueError: it has several channels.
    """
    try:
        with Image.open(path) as picture:
            values = stored_values(picture)
    except OSError as error:
        raise OSError(f"cannot read the region PNG {path}: {error}") from error
    if values.ndim != 2:
        raise ValueError(
            f"a region PNG must be grey (8 or 16 bits) or a palette, "
            f"got {values.shape[2]} channels: {path}"
        )
    return values


def stored_values(picture: Image.Image) -> np.ndarray:
    """A PNG just opened -> its values as the file has them, (H, W) or (H, W, channels)."""
    stretch = STRETCHED.get(picture.tile[0].args if picture.tile else None, 1)
    return np.asarray(picture) // stretch if stretch > 1 else np.array(picture)


def split_map(values: np.ndarray) -> np.ndarray:
    """(H, W) map -> (M, H, W) bool, a mask for each value but 0, by rising value."""
    present = np.unique(values)
    present = present[present != 0]
    return values[None] == present[:, None, None]


def free_regions(values: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """(H, W) region map, (H, W) bool taken -> (M, H, W) bool: regions mostly free, cut to it."""
    masks = split_map(values)
    free = masks & ~taken
    areas, free_areas = masks.sum(axis=(1, 2)), free.sum(axis=(1, 2))
    return free[free_areas >= FREE_SHARE * areas]


def group_by_photo(photos: list[RegionPhoto]) -> dict[str, list[RegionPhoto]]:
    """The maps of each photo, by its stem."""
    groups = defaultdict(list)
    for photo in photos:
        groups[photo.stem].append(photo)
    return dict(groups)


def _photo_of(path: Path, photos: dict[str, Path], images: Path) -> Path:
    for stem in (path.stem, path.stem.rpartition("_")[0]):
        if stem in photos:
            return photos[stem]
    raise ValueError(f"the region PNG {path} has no photo {path.stem}.jpg or .png in {images}")
