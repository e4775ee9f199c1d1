"""Label PNGs of photos: which belongs to which, what they hold."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from maskclip.images import load_image
from maskclip.photo_files import expand_inputs
from proposal.data.regions import stored_values

logger = logging.getLogger(__name__)

IGNORE_16_BIT = 65535
SHOWN = 3  # names that a sentence lists
_EXIF_ORIENTATION, _ON_ITS_SIDE = 274, (5, 6, 7, 8)


@dataclass(frozen=True)
class LabelledPhoto:
    """A photo with its label PNG."""

    image: Path
    labels: Path

    @property
    def stem(self) -> str:
        """The file's name without its ending."""
        return self.image.stem


def pair_photos(images: str | Path, labels: str | Path) -> list[LabelledPhoto]:
    """A folder of photos, a folder of label PNGs of the same stems -> the pairs, sorted.

    Photos without labels are left out (benchmarks ship more photos than they label), and told.

    Raises:
        FileNotFoundError: a folder is missing, a label PNG has no photo, nothing belongs together.
        ValueError: two photos have the same stem.
    """
    for folder, what in ((Path(images), "photos"), (Path(labels), "label PNGs")):
        if not folder.is_dir():
            raise FileNotFoundError(f"expected a folder of {what}, there is none at {folder}")
    found = sorted(path for path in Path(labels).rglob("*.png") if not path.name.startswith("."))
    if not found:
        raise FileNotFoundError(f"{labels} holds no label PNG: expected x.png for each x.jpg")
    stems = _by_stem(found)
    own = {path.resolve() for path in found}  # one folder may hold both
    every = [p.path for p in expand_inputs([images]) if p.path.resolve() not in own]
    photos = _by_stem(path for path in every if path.stem in stems)
    missing = [path.name for stem, path in stems.items() if stem not in photos]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(found)} label PNGs have no photo of their stem in {images}: "
            f"{listing(missing)}"
        )
    if len(photos) < len(every):
        left_out, total = len(every) - len(photos), len(every)
        logger.warning("%d of %d photos have no label PNG and are left out", left_out, total)
    return [LabelledPhoto(photos[stem], path) for stem, path in stems.items()]


def _by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        twin = found.setdefault(path.stem, path)
        if twin is not path:
            raise ValueError(
                f"{twin} and {path} have the same stem, by which photos and label PNGs pair: "
                "rename one"
            )
    return found


def read_labels(path: Path) -> np.ndarray:
    """A PNG of 8 bits, 16 bits or with a palette -> (H, W) int64, as the file has it.

    Raises:
        ValueError: it holds colours instead of one value a pixel.
        OSError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            values = stored_values(image)
            mode = image.mode
    except FileNotFoundError:
        raise
    except Exception as error:  # decoders meet damaged files with whatever they stumble over
        raise OSError(f"{path} is no readable label PNG ({error}): get it anew") from error
    if values.ndim != 2 or mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
        raise ValueError(
            f"{path} must hold one value a pixel (8 or 16 bits, or a palette), got a picture of "
            f"mode {mode}: save the class indices as a grey PNG"
        )
    return values.astype(np.int64)


def check_labels(path: Path, labels: np.ndarray, count: int, ignore: int) -> None:
    """(H, W) int64 must hold 0 to count - 1 or ``ignore``.

    Raises:
        ValueError: naming the file and its values.
    """
    held = np.unique(labels)
    strange = held[((held < 0) | (held >= count)) & (held != ignore)]
    if len(strange):
        more = " …" if len(strange) > SHOWN else ""
        raise ValueError(
            f"{path} must hold labels 0 to {count - 1}, or {ignore} where nothing is counted, got "
            f"{', '.join(map(str, strange[:SHOWN].tolist()))}{more}: check the class list and the "
            "ignore label"
        )


def load_truth(
    photo: LabelledPhoto, count: int, ignore: int, short_side: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """-> (H, W, 3) uint8 RGB, (H, W) int64 labels checked; 65535 of 16-bit maps is ignored, too.

    Raises:
        ValueError: sizes differ, or a label is out of range.
        OSError: a file cannot be read.
    """
    labels = read_labels(photo.labels)
    labels[labels == IGNORE_16_BIT] = ignore
    check_labels(photo.labels, labels, count, ignore)
    image = load_image(photo.image)
    if labels.shape != image.shape[:2]:
        raise ValueError(_size_sentence(photo, image.shape[:2], labels.shape))
    return limit_short_side(image, labels, short_side)


def check_sizes(photos: Iterable[LabelledPhoto]) -> None:
    """Compare the sizes that the files' headers state, which is quick.

    Raises:
        ValueError: a label PNG is not of its photo's size.
    """
    for photo in photos:
        sizes = []
        for path in (photo.image, photo.labels):
            try:
                with Image.open(path) as image:
                    turned = image.getexif().get(_EXIF_ORIENTATION) in _ON_ITS_SIDE
                    width, height = image.size
            except Exception:  # reading it says more
                sizes = []
                break
            is_photo = path == photo.image
            sizes.append((width, height) if turned and is_photo else (height, width))
        if len(set(sizes)) > 1:
            raise ValueError(_size_sentence(photo, *sizes))


def limit_short_side(
    image: np.ndarray, labels: np.ndarray, short_side: int
) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3), (H, W): where the short side is longer, both resized to it; 0 = never."""
    height, width = labels.shape
    if not short_side or min(height, width) <= short_side:
        return image, labels
    scale = short_side / min(height, width)
    size_wh = int(width * scale + 0.5), int(height * scale + 0.5)  # detectron2's rounding
    resized = Image.fromarray(image).resize(size_wh, Image.Resampling.BILINEAR)
    small = Image.fromarray(labels.astype(np.int32)).resize(size_wh, Image.Resampling.NEAREST)
    return np.asarray(resized), np.asarray(small).astype(np.int64)


def listing(names: Iterable[str]) -> str:
    """``a, b, c and 5 more``."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _size_sentence(
    photo: LabelledPhoto, image_hw: tuple[int, int], labels_hw: tuple[int, int]
) -> str:
    return (
        f"{photo.labels} must have the size of {photo.image}, {image_hw[0]} x {image_hw[1]}, got "
        f"{labels_hw[0]} x {labels_hw[1]} (height x width): resize the labels with nearest"
    )
