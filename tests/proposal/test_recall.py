"""Recall against COCOeval, by hand, on nothing."""

from __future__ import annotations

import io
import math
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from proposal.proposals import Proposals
from proposal.recall import Truth, count_found, mask_ious, proposal_recall


def boxes(rng: np.random.Generator, count: int, size_hw: tuple[int, int]) -> np.ndarray:
    masks = np.zeros((count, *size_hw), dtype=bool)
    for mask in masks:
        side = int(rng.integers(4, 150))
        y, x = rng.integers(0, size_hw[0] - 4), rng.integers(0, size_hw[1] - 4)
        mask[y : y + side, x : x + int(side * rng.uniform(0.5, 1.5))] = True
    return masks


def shaken(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Proposals around the objects, so that many overlaps lie between .5 and .95."""
    moved = [
        np.roll(mask, tuple(rng.integers(-4, 5, 2)), axis=(0, 1)) for mask in masks for _ in "abc"
    ]
    return np.array(moved)


def photo(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    size_hw = (200, 240)
    objects, crowds = boxes(rng, 9, size_hw), boxes(rng, 1, size_hw)
    found = np.concatenate([shaken(objects, rng), shaken(crowds, rng), boxes(rng, 5, size_hw)])
    return objects, crowds, found, rng.permutation(len(found)) / len(found)


def coco_recall(photos: list) -> np.ndarray:
    images, truths, results = [], [], []
    for number, (objects, crowds, found, scores) in enumerate(photos, start=1):
        images.append({"id": number, "height": 200, "width": 240})
        for crowd, masks in enumerate((objects, crowds)):
            for mask in masks:
                code = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
                truths.append(
                    {
                        "id": len(truths) + 1,
                        "image_id": number,
                        "category_id": 1,
                        "iscrowd": crowd,
                        "area": float(mask.sum()),
                        "bbox": list(rle.toBbox(code)),
                        "segmentation": code,
                    }
                )
        for mask, score in zip(found, scores, strict=True):
            code = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
            results.append(
                {"image_id": number, "category_id": 1, "segmentation": code, "score": score}
            )
    with redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": images,
            "annotations": truths,
            "categories": [{"id": 1, "name": "object"}],
            "info": {},
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "segm")
        evaluation.params.maxDets = [10, 100, 1000]
        evaluation.params.useCats = 0
        evaluation.evaluate()
        evaluation.accumulate()
    recall = evaluation.eval["recall"]  # (IoUs, categories, sizes, counts)
    return 100 * recall.mean(axis=0)[0]  # (sizes, counts)


def test_equals_cocoeval_on_random_photos():
    photos = [photo(seed) for seed in range(6)]
    ours = proposal_recall(
        (
            Proposals(torch.from_numpy(found).float(), torch.from_numpy(scores).float()),
            Truth(objects, objects.sum(axis=(1, 2))),
        )
        for objects, _, found, scores in photos
    )
    theirs = coco_recall(photos)
    assert 10 < theirs.min() < theirs.max() < 99  # neither all nor nothing is found
    for row, size in enumerate(("", "_small", "_medium", "_large")):
        for column, count in enumerate((10, 100, 1000)):
            assert ours[f"AR@{count}{size}"] == pytest.approx(theirs[row, column], abs=1e-6)


def test_by_hand():
    """IoU .8 is found at 7 of 10 thresholds, IoU .5 at one, the third object never: 8 of 30."""
    overlaps = np.array([[0.8, 0.0, 0.0], [0.7, 0.5, 0.1]])
    assert count_found(overlaps).sum(axis=1).tolist() == [8, 8, 8]


def test_only_the_best_scores_answer():
    masks = torch.zeros(11, 4, 4)
    masks[10, :2] = 1
    truth = Truth(np.array([masks[10].numpy() > 0]), np.array([8.0]))
    late = proposal_recall([(Proposals(masks, torch.linspace(1, 0, 11)), truth)])
    assert (late["AR@10"], late["AR@100"], late["best_overlap"]) == (0, 100, 100)
    assert late["AR@100_small"] == 100
    assert math.isnan(late["AR@100_large"])


@pytest.mark.parametrize("proposals", [0, 1, 3])
@pytest.mark.parametrize("objects", [0, 1, 3])
def test_any_number_of_either(proposals, objects):
    truth = Truth(np.ones((objects, 6, 8), dtype=bool), np.full(objects, 48.0))
    guess = Proposals(torch.ones(proposals, 3, 4), torch.ones(proposals))
    recall = proposal_recall([(guess, truth)])["AR@100"]
    if objects == 0:
        assert math.isnan(recall)
    else:
        assert recall == pytest.approx(100 * min(objects, proposals) / objects)


def test_masks_are_compared_on_the_photo_whatever_their_size():
    truth = np.zeros((1, 8, 8), dtype=bool)
    truth[0, :, :4] = True
    small = torch.tensor([[[1.0, 0.0]]])
    assert mask_ious(small, truth, 0.5)[0, 0] == 1.0
