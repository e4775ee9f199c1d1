from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from labeling.held_out import IGNORE, HeldOut, commonest_label, score_labels, truth_labels
from labeling.quality import add_ratio, measure_pixels, measure_proposals
from labeling.quality_table import table
from maskclip.annotations import AnnotatedPhoto, Instance
from proposal.proposals import Proposals

NAMES = ("person", "cat", "tie")


def columns(first, last):
    mask = np.zeros((2, 8), dtype=bool)
    mask[:, first:last] = True
    return mask


@pytest.fixture
def photo():
    return AnnotatedPhoto(
        "1.png",
        (2, 8),
        (
            Instance(columns(2, 3), "tie", crowd=False, stated_area=2),
            Instance(columns(0, 5), "person", crowd=False, stated_area=10),
            Instance(columns(4, 8), "cat", crowd=True),
        ),
    )


@pytest.fixture
def held_out(photo, tmp_path):
    Image.new("RGB", (8, 2)).save(tmp_path / "1.png")
    return HeldOut((photo,), NAMES, tmp_path)


def test_small_instances_lie_on_top_and_crowds_are_ignored(photo):
    np.testing.assert_array_equal(truth_labels(photo, NAMES)[0], [0, 0, 2, 0, 0] + [IGNORE] * 3)


def test_names_that_are_not_asked_for_hide_what_lies_below(photo):
    np.testing.assert_array_equal(
        truth_labels(photo, ["person"])[0], [0, 0, IGNORE, 0, 0] + [IGNORE] * 3
    )


def test_the_constant_says_the_name_with_most_pixels(held_out):
    assert commonest_label(held_out) == 0
    metrics = score_labels(lambda image: np.zeros(image.shape[:2], int), held_out, NAMES)
    assert metrics["pACC"] == pytest.approx(80)
    assert metrics["mIoU"] == pytest.approx((80 + 0) / 2)
    assert metrics["pixels"] == 10


def test_perfect_labels_are_perfect(held_out, photo):
    metrics = score_labels(lambda _: truth_labels(photo, NAMES), held_out, NAMES)
    assert metrics["mIoU_union"] == metrics["pACC"] == 100
    assert "100.0" in table({"pixels": {"model": metrics}})


def test_recall_counts_instances_but_no_crowds(held_out, photo):
    class Knows:
        def propose(self, _):
            masks = np.stack([one.mask for one in photo.instances[:1]])
            return Proposals(torch.from_numpy(masks).float(), torch.ones(1))

    found = measure_proposals({"knows": Knows()}, held_out)
    assert found["knows"]["AR@100"] == pytest.approx(50)


def test_pixels_of_seen_and_unseen_names(held_out, photo):
    class Knows:
        def segment(self, _, names):
            labels = truth_labels(photo, names)
            return SimpleNamespace(labels=np.where(labels == names.index("tie"), 0, labels))

    split = HeldOut(held_out.photos, NAMES, held_out.images, unseen=frozenset({"tie"}))
    found = measure_pixels(Knows(), split)
    assert found["model"]["seen_mIoU"] == pytest.approx(80)
    assert found["model"]["unseen_mIoU"] == found["model"]["hIoU"] == 0
    assert "seen_mIoU" not in measure_pixels(Knows(), held_out)["model"]


@pytest.mark.parametrize(("baseline", "ratio"), [(8, 1.5), (0, None), (float("nan"), None)])
def test_the_recall_is_compared_with_the_baselines(baseline, ratio):
    recall = {"AR@100": 12.0}
    add_ratio(recall, {"AR@100": baseline})
    assert recall.get("AR@100_ratio") == ratio


def test_the_held_out_photos(shared):
    held_out = HeldOut.load(shared)
    assert len(held_out.photos) == 80
    assert len(held_out.names) == 80
    assert len(held_out.unseen) == 15
    assert held_out.unseen < set(held_out.names)
    assert sum(not one.crowd for photo in held_out.photos for one in photo.instances) == 847
    with pytest.raises(FileNotFoundError, match="holds data/"):
        HeldOut.load(shared / "data")
