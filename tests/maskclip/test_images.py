"""Photos of every kind become upright RGB arrays, or one sentence."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from maskclip.images import load_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def saved(image: Image.Image, path: Path, **options) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("1", 1, WHITE),
        ("L", 100, (100, 100, 100)),
        ("RGB", RED, RED),
        ("LA", (0, 0), WHITE),
        ("LA", (90, 255), (90, 90, 90)),
        ("RGBA", (255, 0, 0, 0), WHITE),
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
        ("I;16", 65535, WHITE),
        ("I;16", 257 * 100, (100, 100, 100)),
    ],
)
def test_png_modes(tmp_path, mode, value, expected):
    image = load_image(saved(Image.new(mode, (3, 2), value), tmp_path / "x.png"))
    assert image.shape == (2, 3, 3)
    assert image.dtype == np.uint8
    assert (image == expected).all()


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None]
    path = saved(Image.fromarray(ramp), tmp_path / "x.png")
    assert (load_image(path)[0, :, 0] == np.arange(256)).all()
    assert (load_image(path) == load_image(ramp)).all()


def test_16_bit_tiff(tmp_path):
    path = saved(Image.new("I;16", (2, 2), 257 * 7), tmp_path / "x.tif")
    assert (load_image(path) == 7).all()


@pytest.mark.parametrize(
    ("values", "expected"), [([0, 0.5, 1], [0, 128, 255]), ([0, 51, 255], [0, 51, 255])]
)
def test_float_grey_takes_the_smallest_usual_range(values, expected):
    image = Image.fromarray(np.array([values], np.float32))
    assert load_image(image)[0, :, 1].tolist() == expected


def test_palette_with_transparency_is_laid_on_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    loaded = load_image(saved(image, tmp_path / "x.png", transparency=1))
    assert loaded.tolist() == [[list(RED), list(WHITE)]]


def test_transparent_colour_of_an_rgb_png(tmp_path):
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), BLUE)
    loaded = load_image(saved(image, tmp_path / "x.png", transparency=BLUE))
    assert loaded.tolist() == [[list(RED), list(WHITE)]]


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_cmyk(tmp_path, ending):
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    path = saved(cyan, tmp_path / f"x.{ending}")
    if ending == "jpg":  # Adobe writes CMYK upside down, and says so
        assert b"Adobe" in path.read_bytes()
    assert np.abs(load_image(path).astype(int) - (0, 255, 255)).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_what_a_viewer_shows(tmp_path, orientation):
    upright = Image.new("RGB", (32, 48), WHITE)
    upright.paste(RED, (0, 0, 16, 16))  # red in the upper left corner
    turns = Image.Transpose
    stored = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_90,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_270,
    }
    image = upright.transpose(stored[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(image, tmp_path / "x.jpg", exif=exif, quality=95)
    for source in (path, Image.open(path)):
        loaded = load_image(source)
        assert loaded.shape == (48, 32, 3)
        assert np.abs(loaded[4, 4].astype(int) - RED).max() < 30
        assert loaded[40, 28].min() > 225


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_spoils_no_photo(tmp_path):
    path = saved(Image.new("RGB", (8, 8), GREEN), tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*broken")
    assert load_image(path).shape == (8, 8, 3)


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_first_frame_of_an_animation(tmp_path, ending):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN, BLUE)]
    path = tmp_path / f"x.{ending}"
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    assert np.abs(load_image(path).astype(int) - RED).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (5000, 1), (1, 5000)])
def test_thin_photos(tmp_path, size):
    path = saved(Image.new("RGB", size, BLUE), tmp_path / "x.png")
    assert load_image(path).shape == (size[1], size[0], 3)


def test_unicode_path(tmp_path):
    folder = tmp_path / "Füße 写真"
    folder.mkdir()
    assert load_image(saved(Image.new("RGB", (1, 2)), folder / "été 🐈.png")).shape == (2, 1, 3)


def test_arrays_are_copied_and_may_have_gaps():
    array = np.arange(2 * 6 * 3, dtype=np.uint8).reshape(2, 6, 3)
    loaded = load_image(array[:, ::2])
    assert loaded.flags.c_contiguous
    assert (loaded == array[:, ::2]).all()
    loaded[:] = 0
    assert array[0, 0, 1] == 1


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 4, 5), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(3, np.uint8),
    ],
)
def test_other_arrays_are_refused(array):
    with pytest.raises(ValueError, match="uint8 RGB array"):
        load_image(array)


def truncated_jpeg() -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "jpeg")
    return buffer.getvalue()[:1500]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"this is text, not a photo", "is not a photo"),
        (truncated_jpeg(), "is damaged"),
        (truncated_jpeg()[:20], "is not a photo|is damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "is not a photo|is damaged"),
    ],
)
def test_what_is_no_photo_is_one_sentence(tmp_path, content, message):
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    with pytest.raises(OSError, match=message) as caught:
        load_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no photo"):
        load_image(tmp_path / "x.jpg")
    with pytest.raises(IsADirectoryError, match="folder"):
        load_image(tmp_path)


def bomb(path: Path, side: int) -> Path:
    """A PNG of side x side black pixels, in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    content = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


def test_pixel_bomb_is_refused_before_memory_is_taken(tmp_path, monkeypatch):
    path = bomb(tmp_path / "bomb.png", 30_000)
    monkeypatch.delattr(ImageFile.ImageFile, "load")  # what decodes the pixels
    with pytest.raises(OSError, match="30000 x 30000 = 900,000,000 pixels.*178,956,970") as caught:
        load_image(path)
    assert "MASKCLIP_MAX_PIXELS=900000000" in str(caught.value)


def test_the_limit_can_be_moved(tmp_path, monkeypatch):
    path = bomb(tmp_path / "x.png", 100)
    with pytest.raises(OSError, match="more than the limit of 9,999"):
        load_image(path, max_pixels=9_999)
    monkeypatch.setenv("MASKCLIP_MAX_PIXELS", "9_999")
    with pytest.raises(OSError, match="more than the limit of 9,999"):
        load_image(path)
    monkeypatch.setenv("MASKCLIP_MAX_PIXELS", "10000")
    assert load_image(path).shape == (100, 100, 3)
    monkeypatch.setenv("MASKCLIP_MAX_PIXELS", "many")
    with pytest.raises(ValueError, match="MASKCLIP_MAX_PIXELS must be a number"):
        load_image(path)


def test_pillows_own_limit_stands_neither_in_the_way_nor_is_it_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert load_image(bomb(tmp_path / "x.png", 50)).shape == (50, 50, 3)
    assert Image.MAX_IMAGE_PIXELS == 100
