import numpy as np
import pytest
from PIL import Image

from labeling.held_out import HeldOut
from labeling.mask_scores import MaskScores, harmonic_mean, measure_regions, score_masks
from maskclip.annotations import AnnotatedPhoto, Instance
from maskclip.checkpoint import load_clip

NAMES = ("person", "cat", "dog", "cow")


@pytest.fixture
def held_out(tmp_path):
    return HeldOut((), NAMES, tmp_path, unseen=frozenset({"dog", "cow"}))


def scores_of(said):
    """Masks by (true, best, second best): the rest of the names score nothing."""
    logits = np.zeros((len(said), 1 + len(NAMES)), dtype=np.float32)
    texts = ("a query", *NAMES)
    for row, (_, best, second) in zip(logits, said, strict=True):
        row[texts.index(best)], row[texts.index(second)] = 2, 1
    return MaskScores(logits, texts, tuple(true for true, _, _ in said))


def test_seen_and_unseen_masks_are_told_apart(held_out):
    said = [
        ("person", "person", "cat"),
        ("person", "cat", "person"),
        ("cat", "cat", "dog"),
        ("dog", "cat", "dog"),  # right among the unseen names alone
        ("cow", "dog", "cow"),
        ("cow", "cow", "dog"),
    ]
    found = measure_regions(scores_of(said), held_out)["model"]
    assert found["top1"] == pytest.approx(100 * 3 / 6)
    assert found["seen_top1"] == pytest.approx(100 * 2 / 3)
    assert found["unseen_top1"] == pytest.approx(100 * 1 / 3)
    assert found["h_top1"] == pytest.approx(100 * 4 / 9)
    assert found["seen_mean_per_class"] == pytest.approx((50 + 100) / 2)
    assert found["unseen_mean_per_class"] == pytest.approx((0 + 50) / 2)
    assert found["unseen_alone_top1"] == pytest.approx(100 * 2 / 3)
    assert found["unseen_alone_per_class"] == {"dog": 100, "cow": 50}
    assert found["unseen_alone_chance"] == 50
    assert (found["regions"], found["unseen_regions"]) == (6, 3)


def test_a_head_start_for_unseen_names_is_measured(held_out):
    """Each mask's logits for cat and dog: dogs trail by 3, the cats lead by 2 and 5."""
    rows = {"cat": [(2, 0), (5, 0)], "dog": [(3, 0), (3, 0)]}
    logits = np.full((4, len(NAMES)), -9, dtype=np.float32)
    logits[:, 1:3] = [pair for pairs in rows.values() for pair in pairs]
    true = tuple(name for name, pairs in rows.items() for _ in pairs)
    found = measure_regions(MaskScores(logits, NAMES, true), held_out)["model"]
    assert found["unseen_top1"] == 0
    assert 3 < found["calibrated_start"] < 5
    assert found["calibrated_unseen_top1"] == 100  # both dogs, at the price of the nearer cat
    assert found["calibrated_seen_top1"] == 50
    assert found["calibrated_h_top1"] == pytest.approx(100 * 2 / 3)
    assert 50 <= found["calibrated_area"] <= 100


def test_the_constant_says_the_commonest_names(held_out):
    said = [("cat", "dog", "cow")] * 2 + [("dog", "dog", "cow")]
    found = measure_regions(scores_of(said), held_out)
    assert found["always cat"]["top1"] == pytest.approx(100 * 2 / 3)
    assert found["always cat"]["top5"] == 100
    assert found["model"]["top1"] == pytest.approx(100 / 3)


@pytest.mark.parametrize("said", [[], [("person", "person", "cat")]])
def test_where_nothing_is_unseen_there_is_no_number(held_out, said):
    found = measure_regions(scores_of(said), held_out)["model"]
    assert found["unseen_top1"] is found["h_top1"] is found["unseen_alone_top1"] is None
    assert found["calibrated_h_top1"] is None
    assert found["top1"] == (100 if said else 0)


@pytest.mark.parametrize(
    ("one", "other", "mean"), [(60, 30, 40), (0, 50, 0), (0, 0, 0), (None, 50, None)]
)
def test_harmonic_mean(one, other, mean):
    assert harmonic_mean(one, other) == (None if mean is None else pytest.approx(mean))


def test_masks_are_scored_against_every_text_and_crowds_left_out(tiny_checkpoint, tmp_path):
    Image.new("RGB", (16, 12), (200, 30, 30)).save(tmp_path / "1.png")
    mask = np.zeros((12, 16), dtype=bool)
    mask[2:8, 3:9] = True
    objects = (Instance(mask, "cat", crowd=False), Instance(~mask, "dog", crowd=True))
    empty = AnnotatedPhoto("1.png", (12, 16), ())
    photos = (AnnotatedPhoto("1.png", (12, 16), objects), empty)
    clip = load_clip(tiny_checkpoint, "cpu")
    scores = score_masks(clip, HeldOut(photos, NAMES, tmp_path), (*NAMES, "couch|sofa", "cat"))
    assert scores.texts == (*NAMES, "couch|sofa")
    assert scores.true == ("cat",)
    alone = score_masks(clip, HeldOut(photos, NAMES, tmp_path), ("cow", "cat"))
    np.testing.assert_allclose(scores.columns(("cow", "cat")), alone.logits, rtol=1e-4)
