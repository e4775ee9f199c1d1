import numpy as np
import pytest

from maskclip.adaptation.config import PairSource
from maskclip.adaptation.pair_table import is_held_out, read_table
from maskclip.pairs import Pair, write_pairs_folder
from maskclip.unseen_words import read_left_out


@pytest.fixture
def write(tmp_path):
    def write(name, pairs):
        """Pairs as (photo, left edge of a 4 x 4 square, noun)."""
        rows = []
        for photo, left, noun in pairs:
            mask = np.zeros((8, 16), bool)
            mask[2:6, left : left + 4] = True
            rows.append(Pair.from_mask(mask, image=f"{photo}.jpg", noun=noun))
            (tmp_path / f"{photo}.jpg").touch()
        write_pairs_folder(tmp_path / name, rows, images=tmp_path, config={})
        return str(tmp_path / name)

    return write


def test_a_region_named_twice_is_one_region(write):
    table = read_table(
        [PairSource(write("a", [("p", 0, "dog"), ("p", 0, "collie"), ("q", 0, "car")]))]
    )
    assert (len(table), len(table.regions)) == (3, 2)
    collie, dog = (table.nouns.index(noun) for noun in ("collie", "dog"))
    assert table.said_together().tolist() == sorted([[collie, dog], [dog, collie]])


def test_pairs_are_drawn_by_source_and_rarity(write):
    many = write(
        "many",
        [("p", 0, "dog"), ("p", 4, "dog"), ("p", 8, "dog"), ("p", 12, "dog"), ("q", 0, "car")],
    )
    few = write("few", [("r", 0, "sky")])
    sources = [PairSource(many, weight=3.0, balance=0.5), PairSource(few, weight=1.0)]
    # In the first source: dogs 1/2 each, the car 1; together 3, of weight 3/4.
    np.testing.assert_allclose(read_table(sources).weights(), [1 / 8] * 4 + [1 / 4] + [1 / 4])


def test_held_out_photos_are_never_drawn_and_can_be_had_alone(write):
    folder = write("a", [(f"p{i}", 0, "dog") for i in range(40)])
    sources = [PairSource(folder)]
    table = read_table(sources, hold_out=0.3)
    outside = np.array([is_held_out(f"p{i}", 0.3) for i in range(40)])
    assert 3 < outside.sum() < 25
    assert (table.weights()[outside] == 0).all() and (table.weights()[~outside] > 0).all()
    assert len(read_table(sources, hold_out=0.3, only_held_out=True)) == outside.sum()


def test_limits(write):
    folder = write("a", [(f"p{i}", 0, "dog") for i in range(9)] + [("q", 0, "car")])
    assert len(read_table([PairSource(folder, max_per_noun=4)])) == 5
    with pytest.raises(ValueError, match="tools/prepare_nano.py"):
        read_table([PairSource(folder, min_area=17)])


def test_a_closed_list_tells_its_nouns_apart(write):
    closed = write("closed", [("p", 0, "bear"), ("p", 4, "teddy bear")])
    other = write("other", [("q", 0, "panda")])
    table = read_table([PairSource(closed, exclusive=True), PairSource(other)])
    assert table.nouns == ("bear", "panda", "teddy bear")
    assert table.closed_lists().tolist() == [[True], [False], [True]]
    assert table.exclusive_nouns() == ["bear", "teddy bear"]


def test_photo_mask_and_box_of_a_region(write, tmp_path):
    table = read_table([PairSource(write("a", [("p", 4, "dog")]))])
    assert table.photo(0) == tmp_path / "p.jpg"
    assert table.box_xyxy(0) == (4, 2, 8, 6)
    assert table.mask(0)[2:6, 4:8].all() and table.mask(0).sum() == 16
    assert table.fingerprint(0) == read_table(table.sources).fingerprint(0)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing_here"):
        read_table([PairSource(str(tmp_path / "nothing_here"))])


def test_nouns_may_be_left_out(colour_pairs, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("# colours\n\nRed\n")
    sources = [PairSource(str(colour_pairs))]
    everything = read_table(sources)
    table = read_table(sources, leave_out=read_left_out(words))
    assert table.nouns == ("blue",) and len(table) == 4
    assert len(table.regions) == 8 and table.fingerprint(0) == everything.fingerprint(0)
    assert {int(table.pair_region[i]) % 2 for i in range(4)} == {1}
    words.write_text("red\nblue\n")
    with pytest.raises(ValueError, match="leaves no pair"):
        read_table(sources, leave_out=read_left_out(words))
