import numpy as np
import pytest

from maskclip.evaluation import Confusion

NAMES = ["sky", "road", "cat"]


def test_the_numbers_of_a_worked_example():
    confusion = Confusion(NAMES)
    # sky: 3 of 4 right, one called cat; road: 1 of 2 right, of one nothing said; cat: not there.
    truth = np.array([[0, 0, 0, 0], [1, 1, 255, 255]])
    said = np.array([[0, 0, 0, 2], [1, 255, 2, 0]])
    confusion.add(said, truth)
    metrics = confusion.metrics()
    np.testing.assert_array_equal(confusion.counts, [[3, 0, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0]])
    assert metrics["mIoU"] == pytest.approx(100 * (3 / 4 + 1 / 2) / 2)
    assert metrics["mIoU_union"] == pytest.approx(100 * (3 / 4 + 1 / 2 + 0) / 3)
    assert metrics["fwIoU"] == pytest.approx(100 * (3 / 4 * 4 + 1 / 2 * 2) / 6)
    assert metrics["mACC"] == pytest.approx(100 * (3 / 4 + 1 / 2) / 2)
    assert metrics["pACC"] == pytest.approx(100 * 4 / 6)
    assert metrics["pixels"] == 6
    assert metrics["per_class"]["cat"] == {"IoU": 0.0, "ACC": None}


def test_predictions_on_ignored_pixels_do_not_count():
    confusion = Confusion(NAMES)
    confusion.add(np.array([[0, 1]]), np.array([[0, 255]]))
    assert confusion.metrics()["mIoU_union"] == 100


def test_photos_add_up():
    rng = np.random.default_rng(0)
    truth, said = rng.integers(0, 3, (2, 4, 5)), rng.integers(0, 3, (2, 4, 5))
    one, both = Confusion(NAMES), Confusion(NAMES)
    one.add(said.reshape(8, 5), truth.reshape(8, 5))
    for some_said, some_truth in zip(said, truth, strict=True):
        both.add(some_said, some_truth)
    assert one.metrics() == both.metrics()


@pytest.mark.parametrize("photos", [0, 1])
def test_nothing_counted_is_zero(photos):
    confusion = Confusion(NAMES)
    for _ in range(photos):
        confusion.add(np.zeros((2, 2), dtype=int), np.full((2, 2), 255))
    metrics = confusion.metrics()
    assert metrics["mIoU"] == metrics["pACC"] == metrics["pixels"] == 0
    assert metrics["per_class"] == {}


def test_sixteen_bit_labels():
    names = [f"name {index}" for index in range(847)]
    confusion = Confusion(names, ignore=65535)
    confusion.add(np.array([846, 3], dtype=np.uint16), np.array([846, 65535], dtype=np.uint16))
    assert confusion.metrics()["mIoU"] == 100


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="like the truth"):
        Confusion(NAMES).add(np.zeros((2, 2)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"0 to 2 or 255 \(ignore\), got \[7\]"):
        Confusion(NAMES).add(np.zeros(2), np.array([0, 7]))
    with pytest.raises(ValueError, match="ignore label above"):
        Confusion([str(index) for index in range(300)])
