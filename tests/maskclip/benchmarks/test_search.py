import pytest

from maskclip.benchmarks.labelled_set import LabelledSet
from maskclip.benchmarks.search import parse_search
from maskclip.benchmarks.semantic import best_variant


def test_every_combination_once():
    assert parse_search([]) == ()
    assert parse_search(["fusion_weight=0, 0.5,0"]) == (
        {"fusion_weight": "0"},
        {"fusion_weight": "0.5"},
    )
    both = parse_search(["segmentor.fusion_weight=0,1", "mask_threshold=0.4,0.5"])
    assert len(both) == 4
    assert both[1] == {"fusion_weight": "0", "mask_threshold": "0.5"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("fusion_weight", "--search needs setting=value,value"),
        ("fusion_weight=", "--search needs setting=value,value"),
        ("fusion=0,1", "unknown key fusion: known are background"),
        ("mask_threshold=0.5,7", r"mask_threshold must be in \[0, 1\), got 7"),
    ],
)
def test_what_cannot_be_searched(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_search([text])


def test_the_best_mean_iou_wins_by_hand():
    """Two photos, two settings: the second one has every pixel right."""
    records = [[[(0, 0, 4), (1, 0, 4)], [(0, 0, 4), (1, 1, 4)]], [[(0, 0, 2)], [(0, 0, 2)]]]
    labelled = LabelledSet("x", (), ("a", "b"), 255)
    best, rows = best_variant(records, labelled, [{"w": "0"}, {"w": "1"}])
    assert best == 1
    assert [row["mIoU"] for row in rows] == [pytest.approx(100 * (0.6 + 0) / 2), 100]
    assert rows[0]["w"] == "0"
