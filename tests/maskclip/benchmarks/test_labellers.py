"""Who labels: names given twice, several settings at once, oracles."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from maskclip.benchmarks.labellers import (
    ModelLabeller,
    Photo,
    SettingsLabeller,
    TrueClasses,
    TrueMasks,
    original_labels,
    shared_pixels,
)
from maskclip.segmentor import Segmentor
from maskclip.segmentor_config import SegmentorConfig
from proposal.proposals import Proposals

NAMES = ("sky", "cat", "sky", "dog|hound", "tree")


@pytest.fixture(scope="module")
def segmentor(tiny_checkpoint) -> Segmentor:
    return Segmentor.from_pretrained(tiny_checkpoint)


@pytest.fixture
def photos() -> list[Photo]:
    rng = np.random.default_rng(0)
    sizes = [(48, 64), (40, 40), (31, 57)]
    return [
        Photo(
            rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8),
            np.where(rng.random(size_hw) < 0.1, 255, rng.integers(0, 3, size_hw)),
            f"photo {index}",
        )
        for index, size_hw in enumerate(sizes)
    ]


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["a"], [0]),
        (["a", "b", "c"], [0, 1, 2]),
        (["a", "A", "b"], [0, 2]),
        (["a", "b", "a", "c", "b", "d"], [0, 1, 3, 5]),
        (["x|y", "y|x", "x", "z"], [0, 2, 3]),
        ([" a ", "a", "b "], [0, 2]),
    ],
)
def test_merged_names_keep_their_first_label(names, labels):
    assert original_labels(names).tolist() == labels


def test_labels_index_the_whole_list_though_names_are_given_twice(segmentor, photos):
    unique = tuple(dict.fromkeys(NAMES))
    merged = [segmentor.segment(photo.image, unique).labels for photo in photos]
    whole = [maps[0] for maps in ModelLabeller(segmentor, NAMES).label(photos)]
    back = np.array([0, 1, 3, 4])
    for ours, theirs in zip(whole, merged, strict=True):
        np.testing.assert_array_equal(ours, back[theirs])
    assert not any((labels == 2).any() for labels in whole)


def test_pixels_of_which_nothing_is_said_are_minus_one(segmentor, photos):
    config = replace(segmentor.config, background="threshold:1.0")
    silent = Segmentor(segmentor.proposer, segmentor.clip, config)
    assert (ModelLabeller(silent, NAMES).label(photos[:1])[0][0] == -1).mean() > 0.9


def test_several_settings_at_once_are_each_as_if_alone(segmentor, photos):
    settings = (
        SegmentorConfig(mask_threshold=0.3),
        SegmentorConfig(mask_threshold=0.3, fusion_weight=0.4),
        SegmentorConfig(mask_threshold=0.5, objectness_power=1.0),
        SegmentorConfig(fusion_weight=0.0, background="tree,wall"),
        SegmentorConfig(min_objectness=0.5, compat=True, background="threshold:0.3"),
    )
    together = SettingsLabeller(segmentor, NAMES, settings).label(photos)
    for place, config in enumerate(settings):
        alone = ModelLabeller(Segmentor(segmentor.proposer, segmentor.clip, config), NAMES)
        for maps, (expected,) in zip(together, alone.label(photos), strict=True):
            assert (maps[place] == expected).mean() > 0.999


def test_true_masks_are_named_one_by_one(segmentor, photos):
    maps = TrueMasks(segmentor, NAMES, 255).label(photos)
    for photo, (labels,) in zip(photos, maps, strict=True):
        assert (labels[photo.truth == 255] == -1).all()
        for name in range(3):  # each true region got one name
            assert len(np.unique(labels[photo.truth == name])) == 1


def test_true_masks_of_a_photo_without_any(segmentor):
    photo = Photo(np.zeros((20, 30, 3), np.uint8), np.full((20, 30), 255), "x")
    ((labels,),) = TrueMasks(segmentor, NAMES, 255).label([photo])
    assert (labels == -1).all()
    ((labels,),) = TrueClasses(segmentor, NAMES, 255).label([photo])
    assert (labels == -1).all()


class Fixed:
    """Proposes what it is given."""

    def __init__(self, mask_probs):
        self.mask_probs = mask_probs

    def propose(self, _):
        return Proposals(self.mask_probs, torch.ones(len(self.mask_probs)))


def test_true_classes_of_perfect_proposals_are_perfect(segmentor):
    truth = np.zeros((6, 8), dtype=np.int64)
    truth[:, 4:], truth[0, 0] = 3, 255
    masks = torch.from_numpy(np.stack([truth == 3, truth != 3])).float()
    ready = Segmentor(Fixed(masks), segmentor.clip, SegmentorConfig())
    photo = Photo(np.zeros((6, 8, 3), np.uint8), truth, "x")
    ((labels,),) = TrueClasses(ready, NAMES, 255).label([photo])
    np.testing.assert_array_equal(labels[truth != 255], truth[truth != 255])


def test_true_classes_are_those_with_most_shared_pixels(segmentor):
    truth = np.array([[4, 4, 4, 0, 0, 255, 255, 255]])
    masks = torch.tensor([[[0, 1, 1, 1, 0, 0, 0, 0]], [[0, 0, 0, 0, 0, 1, 1, 1]]]).float()
    ready = Segmentor(Fixed(masks), segmentor.clip, SegmentorConfig())
    photo = Photo(np.zeros((1, 8, 3), np.uint8), truth, "x")
    ((labels,),) = TrueClasses(ready, NAMES, 255).label([photo])
    assert labels.tolist() == [[-1, 4, 4, 4, -1, -1, -1, -1]]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_shared_pixels_of_any_number_of_masks(count):
    truth = np.array([[2, 2, 7, 255]])
    shared = shared_pixels(torch.ones(count, 1, 4), truth, np.array([2, 7]), 0.5)
    assert shared.tolist() == [[2, 1]] * count
