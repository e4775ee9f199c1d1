import re

import numpy as np
import pytest
from PIL import Image

from labeling.contact_html import _mark
from labeling.contact_sheet import choose_rows, outline_mask, write_contact_sheet
from maskclip.pairs import write_pairs, write_run


def test_the_page_needs_nothing_else(pairs_folder):
    page, picture = write_contact_sheet(pairs_folder)
    text = page.read_text()
    assert text.count("<article>") == 3
    assert text.count("data:image/jpeg;base64,") == 6
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert "3 of 3 pairs" in text
    assert "A &lt;b&gt;<b>cat</b>&lt;/b&gt; &amp; a sofa." in text  # escaped, the noun in bold
    assert "0.500   p 0.75   8.3%" in text
    assert Image.open(picture).size[0] > 3 * 400


def test_the_same_seed_shows_the_same_pairs(pairs_folder):
    first = choose_rows(pairs_folder, 2, 1)
    assert first == choose_rows(pairs_folder, 2, 1)
    chosen = {
        tuple(row["noun"] for row in choose_rows(pairs_folder, 1, seed)) for seed in range(20)
    }
    assert chosen == {("cat",), ("sofa",)}
    assert len(choose_rows(pairs_folder, 50, 0)) == 3


def test_photos_that_are_gone_are_left_out(pairs_folder, tmp_path, caplog):
    (tmp_path / "photos" / "a.png").unlink()
    page, _ = write_contact_sheet(pairs_folder)
    assert page.read_text().count("<article>") == 1
    assert "not on the contact sheet" in caplog.text


def test_without_pairs_there_is_no_sheet(tmp_path):
    write_pairs(tmp_path, 0, [])
    write_run(tmp_path, tmp_path, {})
    assert write_contact_sheet(tmp_path) is None
    assert not (tmp_path / "pairs.html").exists()


def test_the_outline_is_where_the_mask_is():
    photo, mask = np.full((100, 200, 3), 200, np.uint8), np.zeros((100, 200), bool)
    mask[20:80, 50:150] = True
    shown = np.array(outline_mask(photo, mask, side=200))
    assert shown.shape == (100, 200, 3)
    assert shown[50, 100].tolist() == [200, 200, 200]  # inside as it was
    assert shown[5, 5].tolist() == [140, 140, 140]  # outside dimmed
    assert shown[20, 100].tolist() == [255, 225, 0]


@pytest.mark.parametrize("size", [1, 3])
def test_a_tiny_mask_is_ringed(size):
    photo, mask = np.full((400, 400, 3), 200, np.uint8), np.zeros((400, 400), bool)
    mask[200 : 200 + size, 200 : 200 + size] = True
    shown = np.array(outline_mask(photo, mask, side=200))
    yellow = (shown == (255, 225, 0)).all(axis=2)
    assert yellow[82:119, 82:119].sum() > 80
    assert np.flatnonzero(yellow.any(axis=0)).min() < 85


def test_plurals_are_marked_too():
    assert _mark("Two Cats sit", "cat") == "Two <b>Cats</b> sit"
    assert _mark("A scatter", "cat") == "A scatter"
