import numpy as np
import pytest
import torch

from maskclip.region_accuracy import classify_masks, region_accuracy, top_k
from maskclip.segmentor import Segmentor
from proposal.proposals import Proposals

NAMES = ["person", "cat", "tv"]


def test_a_worked_example():
    accuracy = region_accuracy([0, 0, 0, 0, 1], [0, 0, 0, 1, 1], NAMES)
    assert accuracy.top1 == pytest.approx(80)
    assert accuracy.mean_per_class == pytest.approx((100 + 50) / 2)
    assert accuracy.per_class == {"person": 100, "cat": 50}
    assert accuracy.regions == 5


@pytest.mark.parametrize("count", [0, 1])
def test_few_regions(count):
    accuracy = region_accuracy([2] * count, [2] * count, NAMES)
    assert (accuracy.regions, accuracy.top1, accuracy.mean_per_class) == (
        count,
        100 * count,
        100 * count,
    )


def test_counts_must_fit():
    with pytest.raises(ValueError, match="N names said"):
        region_accuracy(np.zeros(2), np.zeros(3), NAMES)


@pytest.mark.parametrize(("k", "percent"), [(1, 100 / 3), (2, 200 / 3), (9, 100)])
def test_the_true_name_may_be_among_the_best(k, percent):
    logits = np.array([[3, 2, 1], [3, 2, 1], [3, 2, 1]])
    assert top_k(logits, [0, 1, 2], k) == pytest.approx(percent)


def test_top_k_without_regions_or_with_other_counts():
    assert top_k(np.zeros((0, 3)), [], 5) == 0
    with pytest.raises(ValueError, match=r"\(N, C\) logits"):
        top_k(np.zeros((2, 3)), [0], 5)


@pytest.fixture
def segmentor(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("MASKCLIP_CACHE", str(tmp_path / "cache"))
    return Segmentor.from_pretrained(tiny_checkpoint)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_masks_are_named_as_the_segmentor_names_proposals(segmentor, count):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)
    masks = np.zeros((count, 40, 60), dtype=bool)
    for index, mask in enumerate(masks):
        mask[5 : 20 + index, 3 * index : 25] = True
    names = ["cat", "sofa|couch", "tree"]
    logits = classify_masks(segmentor.clip, image, masks, names)
    assert logits.shape == (count, 3)
    proposals = Proposals(torch.from_numpy(masks).float(), torch.ones(count))
    expected = segmentor.classify(image, proposals, names)
    torch.testing.assert_close(logits.softmax(dim=1), expected)


def test_empty_masks_cannot_be_classified(segmentor):
    image, masks = np.zeros((4, 4, 3), dtype=np.uint8), np.zeros((2, 4, 4), dtype=bool)
    with pytest.raises(ValueError, match="2 empty ones"):
        classify_masks(segmentor.clip, image, masks, ["cat"])
