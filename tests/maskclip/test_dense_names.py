"""Names of places, mixed into those of masks."""

import runpy
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from maskclip import assemble as module
from maskclip.assemble import NOTHING, assemble, score_maps
from maskclip.dense_names import DenseNames

make_scene = runpy.run_path(str(Path(__file__).with_name("scenes.py")))["make_scene"]


def make_places(c, u, v, weight, seed=1):
    random = torch.Generator().manual_seed(seed)
    probs = (3 * torch.randn(u * v, c, generator=random)).softmax(1)
    return DenseNames(probs, (u, v), weight)


def mix_all_at_once(class_probs, mask_probs, size_hw, dense):
    """The same in double precision, with all scores everywhere."""
    class_probs, mask_probs = class_probs.double(), mask_probs.double()
    by_masks = torch.einsum("qc,qhw->chw", class_probs, mask_probs) / mask_probs.sum(0)
    cells = dense.probs.double().mT.reshape(1, -1, *dense.size_hw)
    by_places = F.interpolate(cells, mask_probs.shape[1:], mode="bilinear", align_corners=False)
    scores = (1 - dense.weight) * by_masks + dense.weight * by_places[0]
    return F.interpolate(scores[None], size_hw, mode="bilinear", align_corners=False)[0]


@pytest.mark.parametrize(
    ("q", "c", "map_hw", "grid_hw", "size_hw"),
    [
        (10, 5, (5, 7), (20, 30), (100, 140)),
        (20, 300, (33, 25), (17, 33), (33, 17)),
        (1, 1, (1, 1), (1, 1), (5, 3)),
        (8, 3, (2, 9), (40, 1), (7, 50)),
        (5, 600, (3, 3), (12, 9), (30, 31)),
    ],
)
@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_labels_are_those_of_all_scores_at_once(q, c, map_hw, grid_hw, size_hw, weight):
    class_probs, mask_probs = make_scene(q, c, *grid_hw)
    dense = make_places(c, *map_hw, weight)
    labels, confidence = assemble(class_probs, mask_probs, size_hw, dense)
    scores = mix_all_at_once(class_probs, mask_probs, size_hw, dense)
    lost = scores.amax(0) - scores.gather(0, labels[None])[0]  # 0 but for ties within rounding
    assert lost.max() < 1e-5
    torch.testing.assert_close(confidence, scores.amax(0).float(), atol=1e-5, rtol=0)
    maps = score_maps(class_probs, mask_probs, size_hw, dense)
    torch.testing.assert_close(maps, scores.float(), atol=1e-5, rtol=0)


def test_blocks_do_not_matter(monkeypatch):
    class_probs, mask_probs = make_scene(9, 50, 20, 30)
    dense = make_places(50, 4, 6, 0.4)
    whole = assemble(class_probs, mask_probs, (70, 90), dense)
    for name in ("_PIXELS_PER_BLOCK", "_NAMES_PER_BLOCK", "_CORNER_VALUES", "_PIXEL_VALUES"):
        monkeypatch.setattr(module, name, 7)
    parts = assemble(class_probs, mask_probs, (70, 90), dense)
    assert torch.equal(whole[0], parts[0])
    torch.testing.assert_close(whole[1], parts[1], atol=1e-6, rtol=0)


def test_where_no_mask_is_places_count_alone():
    dense = DenseNames(torch.tensor([[0.9, 0.1]]), (1, 1), 0.25)
    masks = torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
    labels, confidence = assemble(torch.tensor([[0.2, 0.8]]), masks, (1, 4), dense)
    assert labels.tolist() == [[1, 1, 0, 0]]
    expected = [0.75 * 0.8 + 0.25 * 0.1] * 2 + [0.25 * 0.9] * 2
    torch.testing.assert_close(confidence, torch.tensor([expected]))


def test_no_proposals_say_nothing():
    dense = make_places(3, 2, 2, 0.5)
    labels, confidence = assemble(torch.zeros(0, 3), torch.zeros(0, 4, 5), (8, 9), dense)
    assert (labels == NOTHING).all() and (confidence == 0).all()
    maps = score_maps(torch.zeros(0, 3), torch.zeros(0, 4, 5), (8, 9), dense)
    assert maps.shape == (3, 8, 9) and not maps.any()


def test_scores_of_the_first_names():
    """A background's names are compared, too, but not returned."""
    class_probs, mask_probs = make_scene(4, 5, 6, 7)
    dense = make_places(5, 3, 3, 0.4)
    some = score_maps(class_probs[:, :2], mask_probs, (12, 14), dense)
    torch.testing.assert_close(some, score_maps(class_probs, mask_probs, (12, 14), dense)[:2])
