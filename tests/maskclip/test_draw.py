"""Overlays can be read: colours apart, borders, hatching, a legend for every size."""

import sys

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2lab

from maskclip.draw import draw, line_width
from maskclip.fonts import load_font
from maskclip.legend import LARGEST_FONT, MOST_ENTRIES, SMALLEST_FONT, Entry, attach_legend
from maskclip.legend import font_size as legend_font_size
from maskclip.palette import PALETTE, colour_table, label_colour
from maskclip.segmentation import Segmentation


def segmentation(labels: np.ndarray, names: list[str], grey: int = 128) -> Segmentation:
    image = np.full((*labels.shape, 3), grey, np.uint8)
    return Segmentation(labels, names, np.ones(labels.shape), image)


def halves(height: int, width: int, right: int = 1) -> np.ndarray:
    labels = np.zeros((height, width), np.int64)
    labels[:, width // 2 :] = right
    return labels


def test_thirty_colours_are_far_apart():
    lab = rgb2lab(colour_table(len(PALETTE))[None] / 255)[0]  # (30, 3)
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=2) + 1000 * np.eye(len(lab))
    assert len(PALETTE) == 30
    assert apart.min() > 15
    assert apart[:8, :8].min() > 30  # the first ones, which most pictures need, even more


def test_colours_are_stable_and_cycle_with_a_shift():
    assert label_colour(0) == (0xE4, 0x18, 0x48)
    assert len({label_colour(label) for label in range(90)}) == 90
    assert label_colour(90) == label_colour(0)
    assert colour_table(0).shape == (0, 3)
    assert tuple(colour_table(41)[40]) == label_colour(40)


def test_the_photo_keeps_its_place_and_shines_through():
    labels = halves(60, 80)
    image = np.full((60, 80, 3), 128, np.uint8)
    image[:, :20] = 250
    picture = np.asarray(Segmentation(labels, ["a", "b"], np.ones((60, 80)), image).draw())
    assert picture[5, 5].sum() > picture[5, 30].sum() + 100  # same name, brighter photo
    colour, seen = np.array(label_colour(0)), picture[5, 30].astype(int)
    assert np.abs(seen - (0.55 * colour + 0.45 * 128)).max() <= 3  # worked by hand


def test_a_light_border_between_dark_rims():
    picture = np.asarray(draw(segmentation(halves(60, 80), ["a", "b"]), legend=False)).astype(int)
    row = picture[5].sum(axis=1)
    assert row[40] > row[38] + 150
    assert row[39] < row[38]
    assert row[41] < row[42]


def test_the_ignored_region_is_grey_and_hatched():
    picture = np.asarray(draw(segmentation(halves(60, 80, right=255), ["a"]), legend=False))
    ignored = picture[:, 45:]
    assert (ignored.max(axis=2) == ignored.min(axis=2)).all()  # grey
    assert len(np.unique(ignored)) == 2  # ground, stripes
    assert picture[5, 5].max() > picture[5, 5].min() + 50


def test_everything_ignored():
    picture = draw(segmentation(np.full((40, 40), 255), ["a", "b"]))
    assert picture.width > 40 or picture.height > 40


@pytest.mark.parametrize(
    "size_hw", [(1, 1), (1, 5000), (5000, 1), (100, 100), (30, 600), (2000, 3000)]
)
def test_every_size_gets_a_readable_legend(size_hw):
    names = ["cat", "sofa|couch", "a name that is far too long to be written out in any legend"]
    labels = np.zeros(size_hw, np.int64)
    labels.ravel()[: labels.size // 2] = 2
    picture = draw(segmentation(labels, names))
    extra = (picture.width - size_hw[1], picture.height - size_hw[0])
    size = legend_font_size((size_hw[1], size_hw[0]))
    assert SMALLEST_FONT <= size <= LARGEST_FONT
    assert max(extra) >= 1.5 * size
    assert picture.width < size_hw[1] + 30 * size


def test_the_legend_scales_with_the_picture():
    assert legend_font_size((100, 100)) == 12
    assert legend_font_size((1000, 1000)) == 30
    assert legend_font_size((4000, 3000)) == LARGEST_FONT
    assert line_width((100, 80)) == 1
    assert line_width((3000, 4000)) == 4


@pytest.mark.parametrize(("size", "is_beside"), [((300, 400), True), ((900, 300), False)])
def test_the_legend_stands_where_it_fits(size, is_beside):
    entries = [Entry(f"name {i}", "10%", label_colour(i)) for i in range(6)]
    whole = attach_legend(Image.new("RGB", size), entries)
    assert (whole.height == size[1]) == is_beside
    assert (whole.width == size[0]) != is_beside


def test_swatches_have_the_labels_colours():
    whole = np.asarray(attach_legend(Image.new("RGB", (400, 300)), [Entry("a", "1%", (1, 200, 3))]))
    assert (whole == (1, 200, 3)).all(axis=2).sum() > 50


def test_many_names_are_summed_up():
    labels = np.arange(200)[None].repeat(100, axis=0)
    picture = draw(segmentation(labels, [f"name {i}" for i in range(200)]))
    assert picture.width * picture.height < 2_000_000
    assert MOST_ENTRIES < 200


@pytest.mark.parametrize(
    "name", ["Straße", "кошка", "γάτα", "猫", "a\nb", "\x1b[31m\0red", "été 🐈", "x" * 500]
)
def test_any_name_can_be_drawn(name):
    draw(segmentation(halves(60, 80), [name, "b"]))


def test_names_are_written_into_large_patches_only():
    labels = np.full((200, 300), 255)
    labels[:, :200] = 0
    labels[:4, 250:] = 1
    plain = segmentation(labels, ["cat", "dog"])
    blank = segmentation(labels, ["x" * 500, "y" * 500])  # fit nowhere
    changed = np.asarray(draw(plain, legend=False)) != np.asarray(draw(blank, legend=False))
    assert changed[:, :200].any()
    assert not changed[:, 201:].any()


def test_fonts_scale():
    assert load_font(40).getlength("name") > 3 * load_font(12).getlength("name")


def test_5000_names():
    labels = np.arange(5000).reshape(50, 100)
    picture = draw(segmentation(labels, [str(i) for i in range(5000)]))
    assert picture.width > 100


def test_pillows_own_font_serves_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    load_font.cache_clear()
    picture = draw(segmentation(halves(60, 80), ["cat", "кошка"]))
    load_font.cache_clear()
    assert picture.width > 80 or picture.height > 60
