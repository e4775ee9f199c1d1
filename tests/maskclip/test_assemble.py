"""A name for every pixel, against the scores of all names everywhere."""

import runpy
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from maskclip import assemble as module
from maskclip.assemble import NOTHING, assemble, score_maps

make_scene = runpy.run_path(str(Path(__file__).with_name("scenes.py")))["make_scene"]


def assemble_all_at_once(class_probs, mask_probs, size_hw):
    """The published way, in double precision: C x H x W scores."""
    scores = torch.einsum("qc,qhw->chw", class_probs.double(), mask_probs.double())
    scores = F.interpolate(scores[None], size_hw, mode="bilinear", align_corners=False)[0]
    total = mask_probs.double().sum(0)[None, None]
    total = F.interpolate(total, size_hw, mode="bilinear", align_corners=False)[0, 0]
    return scores, scores.amax(0) / total


@pytest.mark.parametrize(
    ("q", "c", "grid_hw", "size_hw"),
    [
        (10, 5, (20, 30), (100, 140)),
        (20, 300, (17, 33), (33, 17)),
        (1, 1, (1, 1), (5, 3)),
        (3, 2, (1, 1), (1, 1)),
        (8, 3, (40, 1), (7, 50)),
        (8, 3, (1, 40), (1, 500)),
        (30, 20, (64, 64), (64, 64)),
        (20, 40, (25, 30), (51, 233)),
        (5, 600, (12, 9), (30, 31)),
    ],
)
@pytest.mark.parametrize("sharpness", [0.3, 4.0])
def test_labels_are_those_of_all_scores_at_once(q, c, grid_hw, size_hw, sharpness):
    class_probs, mask_probs = make_scene(q, c, *grid_hw, sharpness=sharpness)
    labels, confidence = assemble(class_probs, mask_probs, size_hw)
    scores, expected_confidence = assemble_all_at_once(class_probs, mask_probs, size_hw)
    lost = scores.amax(0) - scores.gather(0, labels[None])[0]  # 0 but for ties within rounding
    assert lost.max() < 1e-5
    assert (labels != scores.argmax(0)).float().mean() < 1e-3
    assert torch.allclose(confidence, expected_confidence.float(), atol=1e-5)
    assert torch.allclose(score_maps(class_probs, mask_probs, size_hw), scores.float(), atol=1e-5)


def test_blocks_do_not_matter(monkeypatch):
    class_probs, mask_probs = make_scene(9, 50, 20, 30)
    whole = assemble(class_probs, mask_probs, (70, 90))
    for name in ("_PIXELS_PER_BLOCK", "_NAMES_PER_BLOCK", "_CORNER_VALUES", "_PIXEL_VALUES"):
        monkeypatch.setattr(module, name, 7)
    parts = assemble(class_probs, mask_probs, (70, 90))
    assert torch.equal(whole[0], parts[0])
    assert torch.allclose(whole[1], parts[1], atol=1e-6)


def test_a_name_may_win_between_two_winners():
    """Name 2 is second at both pixels and first half way: 0.6 against (1 + 0) / 2."""
    class_probs = torch.tensor([[1.0, 0, 0.6], [0, 1.0, 0.6]])
    mask_probs = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    labels, confidence = assemble(class_probs, mask_probs, (1, 5))
    # Pixels at 0 (clamped), 0.1, 0.5, 0.9, 1
    assert labels.tolist() == [[0, 0, 2, 1, 1]]
    assert torch.allclose(confidence, torch.tensor([[1.0, 0.9, 0.6, 0.9, 1.0]]))


def test_ties_go_to_the_first_name():
    class_probs = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    labels, _ = assemble(class_probs, torch.rand(2, 6, 6), (20, 20))
    assert (labels == 0).all()


@pytest.mark.parametrize("size_hw", [(1, 1), (9, 12)])
def test_no_proposals_say_nothing(size_hw):
    labels, confidence = assemble(torch.zeros(0, 3), torch.zeros(0, 4, 5), size_hw)
    assert labels.shape == confidence.shape == size_hw
    assert labels.dtype == torch.int64
    assert (labels == NOTHING).all()
    assert (confidence == 0).all()
    assert score_maps(torch.zeros(0, 3), torch.zeros(0, 4, 5), size_hw).shape == (3, *size_hw)


def test_proposals_without_a_name_say_nothing():
    """Rows of zeros: dropped proposals (SPEC 2.5)."""
    labels, confidence = assemble(torch.zeros(2, 3), torch.rand(2, 4, 5), (8, 8))
    assert (labels == NOTHING).all()
    assert (confidence == 0).all()


def test_pixels_of_no_mask_say_nothing():
    mask_probs = torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
    labels, confidence = assemble(torch.tensor([[0.2, 0.8]]), mask_probs, (1, 4))
    assert labels.tolist() == [[1, 1, NOTHING, NOTHING]]
    assert torch.allclose(confidence, torch.tensor([[0.8, 0.8, 0, 0]]))


def test_confidence_by_hand():
    """Scores 0.5 * 0.9 + 1 * 0.1 = 0.55 and 0.45 over masks 1.5."""
    class_probs = torch.tensor([[0.9, 0.1], [0.1, 0.4]])
    mask_probs = torch.tensor([0.5, 1.0])[:, None, None]
    labels, confidence = assemble(class_probs, mask_probs, (2, 2))
    assert (labels == 0).all()
    assert torch.allclose(confidence, torch.full((2, 2), 0.55 / 1.5))


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="of the same Q"):
        assemble(torch.zeros(2, 3), torch.zeros(3, 4, 5), (8, 8))
    with pytest.raises(ValueError, match="of the same Q"):
        score_maps(torch.zeros(2), torch.zeros(2, 4, 5), (8, 8))
