"""SAM and its successors, random ones of every supported kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import pipeline

from proposal.build import build_proposer
from proposal.hub_sam import SamConfig, point_grid, stability

KINDS = (
    *("sam", "sam_hq", "sam2", "sam2_video", "edgetam", "edgetam_video"),
    *("sam3_tracker", "sam3_tracker_video"),
)
# Random networks think little of their masks
EVERYTHING = {"min_quality": -1e9, "min_stability": -1.0, "duplicate_iou": 2.0}
FEW = {"points_per_side": 3, **EVERYTHING}


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("kind", "size_hw"),
    [
        ("sam", (48, 30)),  # SAM pads; its grid lies on the photo alone
        ("sam", (64, 100)),
        ("sam_hq", (30, 48)),
        ("sam2", (50, 50)),  # transformers' grid misses parts of photos that SAM 2 stretches
        ("edgetam", (50, 50)),
        ("sam3_tracker", (50, 50)),
    ],
)
def test_masks_and_scores_are_those_of_transformers(tiny_hub, kind, size_hw):
    proposer = build_proposer(f"hub:{tiny_hub(kind)}", FEW)
    image = photo(*size_hw)
    every = proposer.propose(image).scores
    bars = {"min_quality": every.median().item(), "min_stability": 0.5, "stability_offset": 0.02}
    proposer.config = SamConfig(points_per_side=3, points_per_batch=4, duplicate_iou=2, **bars)
    got = proposer.propose(image)

    generate = pipeline(
        "mask-generation", model=proposer.network, image_processor=proposer.processor
    )
    expected = generate(
        as_picture(image),
        points_per_crop=3,
        pred_iou_thresh=bars["min_quality"],
        stability_score_thresh=bars["min_stability"],
        stability_score_offset=bars["stability_offset"],
        crops_nms_thresh=1.0,
    )
    assert 0 < len(got) < 27
    assert len(got) == len(expected["masks"])
    order = expected["scores"].argsort(descending=True)
    assert torch.allclose(got.scores, expected["scores"][order].clamp(0, 1), atol=1e-5)
    masks = np.stack([expected["masks"][row] for row in order])
    disagreement = (got.mask_probs > 0.5).numpy() != masks
    assert disagreement.mean() < 1e-3


def as_picture(image: np.ndarray):
    from PIL import Image

    return Image.fromarray(image)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_answers_as_each_photo_alone(tiny_hub, kind):
    proposer = build_proposer(f"hub:{tiny_hub(kind)}", FEW)
    photos = [photo(30, 40), photo(80, 50), photo(1, 1), photo(3, 500), photo(1, 3000)]
    batch = proposer.propose_batch(photos, [None] * 5)
    for image, got in zip(photos, batch, strict=True):
        alone = proposer.propose(image)
        longest = min(512, max(image.shape[:2]))
        assert max(got.mask_probs.shape[1:]) == longest
        assert len(got) == len(alone) >= 9
        assert torch.allclose(got.scores, alone.scores, atol=1e-5)
        assert torch.allclose(got.mask_probs.sum(), alone.mask_probs.sum(), rtol=1e-4)
        assert (got.scores.diff() <= 0).all()
    assert proposer.propose_batch([]) == []


def test_the_points_cover_photos_that_are_stretched(tiny_hub):
    """transformers scales the grid by the longer side, although SAM 2 stretches both."""
    proposer = build_proposer(f"hub:{tiny_hub('sam2')}", FEW)
    asked = []
    proposer.network.register_forward_pre_hook(
        lambda _, __, inputs: asked.append(inputs["input_points"]), with_kwargs=True
    )
    proposer.propose(photo(20, 60))
    points = torch.cat(asked, dim=1)[0, :, 0]  # (9, 2) of an input of 64 x 64
    assert torch.allclose(points.amin(0), torch.full((2,), 64 / 6))
    assert torch.allclose(points.amax(0), torch.full((2,), 64 * 5 / 6))


def test_nothing_good_enough_is_no_proposals(tiny_hub):
    proposer = build_proposer(f"hub:{tiny_hub('sam')}", {"points_per_side": 2, "min_quality": 1e9})
    proposals = proposer.propose(photo(30, 40))
    assert proposals.mask_probs.shape == (0, 30, 40)
    unstable = {**FEW, "min_stability": 1.1}
    proposer = build_proposer(f"hub:{tiny_hub('sam')}", unstable)
    assert len(proposer.propose(photo(30, 40))) == 0


def test_duplicates_are_removed(tiny_hub):
    folder = f"hub:{tiny_hub('sam2')}"
    every = build_proposer(folder, FEW).propose(photo(30, 40))
    few = build_proposer(folder, FEW | {"duplicate_iou": 0.5}).propose(photo(30, 40))
    assert 1 <= len(few) < len(every) == 27
    assert few.scores[0] == every.scores[0]


def test_batches_of_points_change_nothing(tiny_hub):
    folder = f"hub:{tiny_hub('sam')}"
    one = build_proposer(folder, FEW | {"points_per_batch": 2}).propose(photo(30, 40))
    all_at_once = build_proposer(folder, FEW).propose(photo(30, 40))
    assert torch.allclose(one.scores, all_at_once.scores, atol=1e-6)
    assert torch.allclose(one.mask_probs, all_at_once.mask_probs, atol=1e-4)


def test_later_models_have_a_lower_bar(tiny_hub):
    for kind, bar in {"sam": 0.88, "sam_hq": 0.88, "sam2": 0.8, "sam2_video": 0.8}.items():
        assert build_proposer(f"hub:{tiny_hub(kind)}").config.min_quality == bar
    assert build_proposer(f"hub:{tiny_hub('sam2')}", {"min_quality": 0.5}).config.min_quality == 0.5


def test_the_grid_by_hand():
    assert point_grid(1, (10, 20)).tolist() == [[10, 5]]
    assert point_grid(2, (4, 8)).tolist() == [[2, 1], [6, 1], [2, 3], [6, 3]]


def test_stability_by_hand():
    logits = torch.tensor([[[2.0, 0.5, -0.5, -2.0]], [[-3.0, -3.0, -3.0, -3.0]]])
    assert stability(logits, 1.0).tolist() == [pytest.approx(1 / 3), 0]
    assert stability(logits[:0], 1.0).shape == (0,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"points_per_side": 0}, "points_per_side must be at least 1"),
        ({"points_per_batch": 0}, "points_per_batch must be at least 1"),
        ({"mask_side": -1}, "mask_side must be at least 1"),
        ({"duplicate_iou": 0}, "duplicate_iou must be above 0"),
        ({"stability_offset": -1}, "stability_offset must be 0 or more"),
        ({"task": "panoptic"}, "unknown key task: known are duplicate_iou"),
    ],
)
def test_wrong_settings_are_refused(tiny_hub, settings, message):
    with pytest.raises(ValueError, match=message):
        build_proposer(f"hub:{tiny_hub('sam')}", settings)
