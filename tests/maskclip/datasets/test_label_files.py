"""Pairs of photos and label PNGs, and what the PNGs hold."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from maskclip.datasets.label_files import (
    LabelledPhoto,
    check_labels,
    check_sizes,
    limit_short_side,
    load_truth,
    pair_photos,
    read_labels,
)


@pytest.fixture
def place(tmp_path):
    (tmp_path / "images" / "more").mkdir(parents=True)
    (tmp_path / "labels").mkdir()
    for stem in ("b", "more/a", "unlabelled"):
        Image.new("RGB", (6, 4), "green").save(tmp_path / "images" / f"{stem}.jpg")
    for stem in ("a", "b"):
        Image.new("L", (6, 4), 1).save(tmp_path / "labels" / f"{stem}.png")
    return tmp_path


def test_pairs_by_stem_in_order(place, caplog):
    pairs = pair_photos(place / "images", place / "labels")
    assert "1 of 3 photos have no label PNG and are left out" in caplog.text
    assert [pair.image.name for pair in pairs] == ["a.jpg", "b.jpg"]
    assert [pair.labels.name for pair in pairs] == ["a.png", "b.png"]


def test_one_folder_may_hold_both(place):
    for path in list((place / "labels").iterdir()):
        path.rename(place / "images" / path.name)
    assert len(pair_photos(place / "images", place / "images")) == 2


def test_what_does_not_pair_is_said(place):
    with pytest.raises(FileNotFoundError, match="folder of label PNGs, there is none at"):
        pair_photos(place / "images", place / "nowhere")
    (place / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no label PNG"):
        pair_photos(place / "images", place / "empty")
    Image.new("L", (6, 4)).save(place / "labels" / "c.png")
    with pytest.raises(FileNotFoundError, match="1 of 3 label PNGs have no photo .* c.png"):
        pair_photos(place / "images", place / "labels")
    (place / "labels" / "c.png").unlink()
    Image.new("RGB", (6, 4)).save(place / "images" / "a.png")
    with pytest.raises(ValueError, match="have the same stem"):
        pair_photos(place / "images", place / "labels")


VALUES = np.array([[0, 1, 255], [2, 2, 7]])


@pytest.mark.parametrize("kind", ["L", "P", "I;16"])
def test_pngs_of_8_and_16_bits_and_palettes(tmp_path, kind):
    values = VALUES if kind in "LP" else np.where(VALUES == 255, 65535, VALUES * 100)
    image = Image.fromarray(values.astype(np.uint8 if kind in "LP" else np.uint16))
    if kind == "P":
        image.putpalette([7, 8, 9] * 256)
    image.save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "x.png"), values)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_pngs_of_few_bits_hold_indices(tmp_path, bits):
    """A grey PNG of one row: values 0, 1, 0, 1, … and, in more bits, the largest at the end."""
    last = 2**bits - 1
    row = [0, 1, 0, 1, 0, 0, 1, last]
    text = "".join(f"{value:0{bits}b}" for value in row)
    header = struct.pack(">IIBBBBB", len(row), 1, bits, 0, 0, 0, 0)
    data = zlib.compress(b"\0" + int(text, 2).to_bytes(bits, "big"))
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    content = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    assert read_labels(tmp_path / "x.png").tolist() == [row]


def test_colours_are_no_labels(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match="one value a pixel .* mode RGB"):
        read_labels(tmp_path / "x.png")
    (tmp_path / "y.png").write_bytes(b"no png")
    with pytest.raises(OSError, match="y.png is no readable label PNG"):
        read_labels(tmp_path / "y.png")


def test_values_out_of_range_are_named_with_their_file(tmp_path):
    check_labels(tmp_path / "x.png", VALUES, 8, 255)
    with pytest.raises(ValueError, match=r"x.png must hold labels 0 to 4, or 255 .* got 7:"):
        check_labels(tmp_path / "x.png", VALUES, 5, 255)
    with pytest.raises(ValueError, match="got 255:"):
        check_labels(tmp_path / "x.png", VALUES, 9, 9)


def test_sizes_must_agree(place):
    (pair,) = [each for each in pair_photos(place / "images", place / "labels") if each.stem == "b"]
    image, labels = load_truth(pair, 2, 255)
    assert image.shape == (4, 6, 3)
    assert labels.tolist() == [[1] * 6] * 4
    Image.new("L", (5, 4)).save(pair.labels)
    sentence = r"b.png must have the size of .*b.jpg, 4 x 6, got 4 x 5 \(height x width\)"
    for check in (lambda: load_truth(pair, 2, 255), lambda: check_sizes([pair])):
        with pytest.raises(ValueError, match=sentence):
            check()


def test_photos_on_their_side_are_compared_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (6, 4)).save(tmp_path / "x.jpg", exif=exif)
    Image.new("L", (4, 6)).save(tmp_path / "x.png")
    pair = LabelledPhoto(tmp_path / "x.jpg", tmp_path / "x.png")
    check_sizes([pair])
    assert load_truth(pair, 1, 255)[0].shape == (6, 4, 3)


def test_65535_is_ignored_whatever_the_ignore_label(tmp_path):
    Image.new("RGB", (2, 1)).save(tmp_path / "x.jpg")
    Image.fromarray(np.array([[3, 65535]], dtype=np.uint16)).save(tmp_path / "x.png")
    pair = LabelledPhoto(tmp_path / "x.jpg", tmp_path / "x.png")
    assert load_truth(pair, 4, 255)[1].tolist() == [[3, 255]]


@pytest.mark.parametrize(
    ("size_hw", "expected"), [((10, 20), (10, 20)), ((24, 60), (12, 30)), ((33, 25), (16, 12))]
)
def test_long_short_sides_are_resized_with_their_labels(size_hw, expected):
    labels = np.zeros(size_hw, dtype=np.int64)
    labels[:, size_hw[1] // 2 :] = 65535
    image, small = limit_short_side(np.zeros((*size_hw, 3), np.uint8), labels, 12)
    assert image.shape[:2] == small.shape == expected
    assert set(np.unique(small)) == {0, 65535}
