"""Photos of every kind as RGB arrays."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

logger = logging.getLogger(__name__)

MAX_PIXELS = 178_956_970  # half a gigabyte as RGB; where Pillow, too, stops reading
MAX_PIXELS_VARIABLE = "MASKCLIP_MAX_PIXELS"  # environment variable that moves the limit

PAPER = (255, 255, 255)  # what shines through transparent pixels: white, as on a page

ImageSource = str | os.PathLike | Image.Image | np.ndarray

_opening = threading.Lock()


def load_image(source: ImageSource, *, max_pixels: int | None = None) -> np.ndarray:
    """A photo (path, PIL image or array) -> (H, W, 3) uint8 RGB, upright as a viewer shows it.

    Files: EXIF rotation is applied, of an animation the first frame is taken, transparency is laid
    on white, 16-bit grey is scaled to 8 bits. Arrays: uint8 (H, W), (H, W, 3) RGB, (H, W, 4) RGBA
    or uint16 (H, W). The result is always a copy.

    Args:
        max_pixels: the largest photo that is decoded; by default ``MASKCLIP_MAX_PIXELS`` from the
            environment, or 178,956,970. Larger ones are refused before memory is taken.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the file cannot be read as a photo, or holds too many pixels.
        ValueError: an array of a shape or kind that is no photo.
    """
    limit = pixel_limit() if max_pixels is None else max_pixels
    if isinstance(source, Image.Image):
        _check_size(source, "the image", limit)
        return _to_rgb(source)
    if isinstance(source, str | os.PathLike):
        return _load_file(Path(source), limit)
    return _load_array(source)


def pixel_limit() -> int:
    """The number of pixels above which photos are refused.

    Raises:
        ValueError: the environment variable holds no whole positive number.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE, "").replace("_", "").strip()
    if not text:
        return MAX_PIXELS
    if not text.isdecimal() or int(text) == 0:
        raise ValueError(
            f"the environment variable {MAX_PIXELS_VARIABLE} must be a number of pixels such as "
            f"{MAX_PIXELS}, got {text!r}: correct or unset it"
        )
    return int(text)


def _load_file(path: Path, limit: int) -> np.ndarray:
    if path.is_dir():
        raise IsADirectoryError(f"expected a photo, got the folder {path}: name a file in it")
    if not path.exists():
        raise FileNotFoundError(f"there is no photo {path}: check the path")
    if path.is_file() and path.stat().st_size == 0:
        raise OSError(f"{path} is empty (0 bytes): it was probably not copied completely")
    try:
        with _open_unlimited(path) as image:
            _check_size(image, str(path), limit)
            return _to_rgb(image)
    except _TooLargeError:
        raise
    except PermissionError as error:
        raise PermissionError(f"{path} may not be read: change its permissions") from error
    except Image.UnidentifiedImageError as error:
        raise OSError(
            f"{path} is not a photo, or of a format that Pillow cannot read: convert it to JPEG or "
            "PNG"
        ) from error
    except Exception as error:  # decoders meet damaged files with whatever they stumble over
        reason = str(error).rstrip(". ") or type(error).__name__
        raise OSError(f"{path} is damaged ({reason}): get a complete copy of it") from error


class _TooLargeError(OSError):
    """The one refusal that is no damage."""


@contextmanager
def _open_unlimited(path: Path) -> Iterator[Image.Image]:
    """Open without Pillow's own limit, which would stop those who raised ours."""
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(path)  # reads the header only
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image


def _check_size(image: Image.Image, what: str, limit: int) -> None:
    width, height = image.size
    if width * height > limit:
        raise _TooLargeError(
            f"{what} has {width} x {height} = {width * height:,} pixels, more than the limit of "
            f"{limit:,}: scale it down, or set the environment variable "
            f"{MAX_PIXELS_VARIABLE}={width * height} to read it all the same"
        )


def _load_array(array: np.ndarray) -> np.ndarray:
    """(H, W), (H, W, 3) or (H, W, 4) -> (H, W, 3) uint8."""
    array = np.asarray(array)
    colours = array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] in (3, 4)
    grey = array.dtype in (np.uint8, np.uint16) and array.ndim == 2
    if not (colours or grey) or array.size == 0:
        raise ValueError(
            f"an image must be a path, a PIL image or a uint8 RGB array (H, W, 3), got an array "
            f"{array.shape} of {array.dtype}: convert it first"
        )
    if colours and array.shape[2] == 3:
        return array.copy(order="C")
    return _to_rgb(Image.fromarray(array))


def _to_rgb(image: Image.Image) -> np.ndarray:
    """A PIL image of any mode -> (H, W, 3) uint8."""
    upright = _upright(image)
    if upright.mode in ("I", "F") or upright.mode.startswith("I;16"):
        grey = _grey_to_bytes(np.asarray(upright), upright.mode)  # (H, W)
        return np.repeat(grey[..., None], 3, axis=2)  # (H, W, 3)
    if "A" in upright.getbands() or "a" in upright.mode or "transparency" in upright.info:
        colours = upright.convert("RGBA")
        paper = Image.new("RGBA", colours.size, (*PAPER, 255))
        return np.array(Image.alpha_composite(paper, colours).convert("RGB"))
    return np.array(upright.convert("RGB"))


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # damage of the pixels shows here, not as damage of the EXIF data
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF data spoil no photo: viewers ignore them, too
        logger.warning("ignoring unreadable EXIF data of %s", getattr(image, "filename", image))
        return image


def _grey_to_bytes(grey: np.ndarray, mode: str) -> np.ndarray:
    """(H, W) of 16 or 32 bits or float -> (H, W) uint8.

    16-bit files use the whole range. 32-bit and float files state none: the smallest usual range
    that holds their values is taken (float 0-1; 8 bits; 16 bits), else the values' own.
    """
    values = np.nan_to_num(grey.astype(np.float32))
    low, high = float(values.min()), float(values.max())
    if mode.startswith("I;16"):
        low, high = 0.0, 65535.0
    elif low >= 0 and high <= 65535:
        usual = (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)
        low, high = 0.0, next(limit for limit in usual if high <= limit)
    span = max(high - low, 1e-12)
    return np.clip(np.rint((values - low) * (255.0 / span)), 0, 255).astype(np.uint8)
