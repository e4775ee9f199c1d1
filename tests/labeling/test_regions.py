import numpy as np
import pytest

from labeling.regions import (
    RegionConfig,
    connected_parts,
    largest_first,
    paint_regions,
    sure_regions,
)

NAMES = ("sky", "road")


def probs_of(rows: list[list[str]], sure: float = 0.9) -> np.ndarray:
    """'.' other, 's' sky, 'r' road; upper case letters only just win."""
    kinds = {".": 0, "s": 1, "r": 2}
    probs = np.zeros((3, len(rows), len(rows[0])), dtype=np.float32)
    for y, row in enumerate(rows):
        for x, letter in enumerate(row):
            best = sure if letter.islower() or letter == "." else 0.4
            probs[:, y, x] = (1 - best) / 2
            probs[kinds[letter.lower()], y, x] = best
    return probs


def found(rows, wanted=NAMES, config=None, free=None):
    probs = probs_of(rows)
    free = np.ones(probs.shape[1:], dtype=bool) if free is None else free
    regions = sure_regions(probs, NAMES, wanted, config or RegionConfig(), free=free)
    return [(region.name, int(region.mask.sum())) for region in regions]


def test_parts_are_apart_largest_first():
    assert found(["ss.rr", "...rr", "s..rr"]) == [("road", 6), ("sky", 2), ("sky", 1)]


def test_other_is_never_a_region():
    assert found(["....", "...."]) == []


def test_only_wanted_names_in_free_pixels():
    free = np.ones((2, 4), dtype=bool)
    free[0, 0] = False
    assert found(["ssrr", "ssrr"], ("sky",), free=free) == [("sky", 3)]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (RegionConfig(0.0, 0.7), [("road", 3), ("road", 1)]),
        (RegionConfig(0.2, 0.7), [("road", 3)]),
        (RegionConfig(0.0, 0.0), [("sky", 4), ("road", 3), ("road", 1)]),
    ],
)
def test_small_and_unsure_regions_are_left_out(config, expected):
    assert found(["SS.r", "SS..", "rrr."], config=config) == expected


def test_confidence_is_the_mean_probability_of_the_winner():
    probs = probs_of(["sS"])
    (region,) = sure_regions(
        probs, NAMES, NAMES, RegionConfig(0, 0), free=np.ones((1, 2), dtype=bool)
    )
    assert region.confidence == pytest.approx((0.9 + 0.4) / 2)


def test_corners_connect():
    mask = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=bool)
    (part,) = connected_parts(mask, 0.0)
    np.testing.assert_array_equal(part, mask)
    assert connected_parts(np.zeros((2, 2), dtype=bool), 0.0) == []


def test_later_masks_lie_on_top():
    large = np.ones((2, 3), dtype=bool)
    small = np.array([[1, 0, 0], [0, 0, 0]], dtype=bool)
    painted = paint_regions(largest_first([small, large]), (2, 3))
    assert painted.dtype == np.uint8
    np.testing.assert_array_equal(painted, [[2, 1, 1], [1, 1, 1]])
    assert not paint_regions([], (2, 3)).any()


def test_many_masks_need_sixteen_bits():
    masks = [np.eye(300, dtype=bool)[index][None] for index in range(300)]
    painted = paint_regions(masks, (1, 300))
    np.testing.assert_array_equal(painted[0], np.arange(1, 301))
