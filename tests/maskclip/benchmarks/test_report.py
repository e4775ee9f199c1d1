"""What a report says, by hand; the whole page is tested with the command."""

import numpy as np
import pytest

from maskclip.benchmarks.labelled_set import LabelledSet, read_seen
from maskclip.benchmarks.report import (
    choose_extremes,
    confused_pairs,
    name_rows,
    photo_scores,
)
from maskclip.evaluation import Confusion

LABELLED = LabelledSet("x", (), ("sky", "sofa|couch", "cat"), 255)


@pytest.fixture
def confusion():
    """sky: 6 right, 2 called cat; sofa: 1 right, 3 cat, 4 of which nothing is said."""
    confusion = Confusion(LABELLED.names)
    confusion.add_cells([(0, 0, 6), (0, 2, 2), (1, 1, 1), (1, 2, 3), (1, 3, 4)])
    return confusion


def test_confusions_that_cost_most_come_first(confusion):
    pairs = [(p.true, p.said, p.pixels, p.share) for p in confused_pairs(confusion)]
    assert pairs == [("sofa", "(nothing)", 4, 50), ("sofa", "cat", 3, 37.5), ("sky", "cat", 2, 25)]


def test_what_each_name_is_taken_for(confusion):
    rows = {row["name"]: row for row in name_rows(confusion)}
    assert rows["sky"] == {"name": "sky", "IoU": 75, "ACC": 75, "share": 50, "taken": "cat"}
    assert rows["sofa|couch"]["taken"] == "(nothing)"
    assert (rows["cat"]["ACC"], rows["cat"]["taken"]) == (None, "")


def test_each_photo_has_a_score_of_its_own():
    scores = photo_scores([[(0, 0, 3), (0, 1, 1)], [], [(2, 2, 5)]], LABELLED)
    assert scores == [75, None, 100]


@pytest.mark.parametrize(
    ("scores", "best", "worst"),
    [
        ([], [], []),
        ([50.0], [0], []),
        ([50.0, None, 20.0], [0], [2]),
        ([0.0, 100.0, 0.0, 100.0], [1, 3], [2, 0]),
    ],
)
def test_extremes_share_no_photo(scores, best, worst):
    assert choose_extremes(scores, [10, 40, 20, 30][: len(scores)]) == (best, worst)


def test_seen_names_are_found_whatever_their_case(tmp_path):
    (tmp_path / "seen.txt").write_text("CAT\nsky \n")
    names = ["Sky", "dog", "cat", "sky"]
    assert read_seen(tmp_path / "seen.txt", names) == {0, 2, 3}


def test_names_with_commas():
    names = ("road, route", "sky")
    spoken = {
        commas: LabelledSet("x", (), names, 255, settings).spoken
        for commas in ("keep", "first", "synonyms")
        for settings in [type(LABELLED.settings)(commas=commas)]
    }
    assert spoken == {
        "keep": names,
        "first": ("road", "sky"),
        "synonyms": ("road|route", "sky"),
    }


def test_ignore_must_be_no_name():
    with pytest.raises(ValueError, match="above 255 names it is 65535"):
        LabelledSet("x", (), tuple(map(str, np.arange(300))), 255)
