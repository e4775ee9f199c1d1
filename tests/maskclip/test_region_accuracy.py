import numpy as np
import pytest

from maskclip.region_accuracy import region_accuracy

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
