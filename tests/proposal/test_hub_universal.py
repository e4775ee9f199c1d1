"""Universal segmentation networks, random ones of every supported kind."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from proposal.build import build_proposer
from proposal.hub_universal import UniversalConfig, UniversalProposer

KINDS = ("maskformer", "mask2former", "oneformer", "eomt", "eomt_windows", "eomt_dinov3")
ALL = {"duplicate_iou": 2.0}  # no duplicates removed


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["maskformer", "mask2former", "oneformer"])
def test_masks_and_objectness_are_the_networks(tiny_hub, kind):
    proposer = build_proposer(f"hub:{tiny_hub(kind)}", ALL)
    image = photo(48, 72)
    got = proposer.propose(image)
    tasks = {"task_inputs": ["panoptic"]} if kind == "oneformer" else {}
    inputs = proposer.processor(images=[image], return_tensors="pt", **tasks)
    if kind == "oneformer":
        words = "the task is panoptic"
        letters = [letter for word in words.split() for letter in (*word[:-1], word[-1] + "</w>")]
        vocabulary = tiny_vocabulary(tiny_hub(kind))
        text = [vocabulary["<|startoftext|>"], *(vocabulary[x] for x in letters), 1]
        inputs["task_inputs"] = torch.tensor([text + [0] * (77 - len(text))])
    with torch.no_grad():
        output = proposer.network(**inputs)
    scores = 1 - output.class_queries_logits[0].softmax(-1)[:, -1]
    order = scores.argsort(descending=True)
    masks = F.interpolate(output.masks_queries_logits, (48, 72), mode="bilinear")[0].sigmoid()
    assert got.mask_probs.shape == (7, 48, 72)
    assert torch.allclose(got.scores, scores[order], atol=1e-6)
    assert torch.allclose(got.mask_probs, masks[order], atol=1e-5)
    assert got.embeddings is None


def tiny_vocabulary(folder):
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder).get_vocab()


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_answers_as_each_photo_alone(tiny_hub, kind):
    proposer = build_proposer(f"hub:{tiny_hub(kind)}", ALL)
    photos = [photo(30, 40), photo(80, 50), photo(30, 40)[::-1].copy(), photo(1, 1), photo(3, 500)]
    batch = proposer.propose_batch(photos, [None] * 5)
    for image, got in zip(photos, batch, strict=True):
        alone = proposer.propose(image)
        assert got.mask_probs.shape[1:] == image.shape[:2]
        assert len(got) >= 7
        assert torch.allclose(got.scores, alone.scores, atol=1e-5)
        assert torch.allclose(got.mask_probs, alone.mask_probs, atol=1e-4)
        assert 0 <= got.mask_probs.min() <= got.mask_probs.max() <= 1
    assert proposer.propose_batch([]) == []


def test_padded_squares_lie_where_transformers_puts_them(tiny_hub):
    proposer = build_proposer(f"hub:{tiny_hub('eomt')}", ALL)
    image = photo(60, 90)
    inputs = proposer.processor(images=[image], return_tensors="pt")
    with torch.no_grad():
        output = proposer.network(inputs["pixel_values"])
    scores = 1 - output.class_queries_logits[0].softmax(-1)[:, -1]
    logits = F.interpolate(output.masks_queries_logits, (64, 64), mode="bilinear")
    edges = {"shortest_edge": 64, "longest_edge": 64}
    (expected,) = proposer.processor.unpad_image(logits, [(60, 90)], edges)
    got = proposer.propose(image).mask_probs
    expected = expected[scores.argsort(descending=True)].sigmoid()
    # It interpolates twice, we once; a pixel more or less of padding makes it 0.03
    assert (got - expected).abs().mean() < 0.02


def test_each_window_of_a_long_photo_proposes_for_itself(tiny_hub):
    proposer = build_proposer(f"hub:{tiny_hub('eomt_windows')}", ALL)
    proposals = proposer.propose(photo(100, 50))  # two windows of 64 rows of 128, none in common
    upper, lower = (
        proposals.mask_probs[:, half].amax((1, 2)) for half in (slice(50), slice(50, 100))
    )
    assert len(proposals) == 14
    assert ((upper == 0) ^ (lower == 0)).all()
    assert (upper > 0).sum() == 7


def test_duplicates_are_removed(tiny_hub):
    folder = f"hub:{tiny_hub('mask2former')}"
    image = photo(30, 40)
    every = build_proposer(folder, ALL).propose(image)
    few = build_proposer(folder, {"duplicate_iou": 1e-3}).propose(image)
    assert len(every) == 7
    assert 1 <= len(few) < 7
    assert few.scores[0] == every.scores[0]
    overlap = ((few.mask_probs > 0.5).sum(0) > 1).float().mean()
    assert overlap < 0.01


def test_masks_of_large_photos_are_reduced(tiny_hub):
    proposer = build_proposer(f"hub:{tiny_hub('mask2former')}", {"mask_side": 50})
    assert proposer.propose(photo(100, 200)).mask_probs.shape[1:] == (25, 50)


def test_oneformer_listens_to_its_task(tiny_hub):
    folder = tiny_hub("oneformer")
    image = photo(30, 40)
    answers = [
        build_proposer(f"hub:{folder}", ALL | {"task": task}).propose(image).scores
        for task in ("panoptic", "semantic")
    ]
    assert not torch.allclose(*answers, atol=1e-6)


def test_oneformer_needs_its_tokenizer(tiny_hub, tmp_path):
    folder = shutil.copytree(tiny_hub("oneformer"), tmp_path / "mute")
    (folder / "vocab.json").unlink()
    with pytest.raises(FileNotFoundError, match="has no tokenizer"):
        build_proposer(f"hub:{folder}")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "everything"}, "task must be one of panoptic, instance, semantic"),
        ({"duplicate_iou": 0}, "duplicate_iou must be above 0"),
        ({"mask_side": 0}, "mask_side must be at least 1"),
        ({"points_per_side": 3}, "unknown key points_per_side: known are duplicate_iou"),
    ],
)
def test_wrong_settings_are_refused(tiny_hub, settings, message):
    with pytest.raises(ValueError, match=message):
        build_proposer(f"hub:{tiny_hub('mask2former')}", settings)


def test_it_follows_its_device(tiny_hub):
    proposer = build_proposer(f"hub:{tiny_hub('oneformer')}", {}, "meta")
    assert isinstance(proposer, UniversalProposer)
    assert proposer.network.device.type == "meta"
    assert proposer.task_tokens.device.type == "meta"
    assert not any(weight.requires_grad for weight in proposer.parameters())
    assert UniversalConfig().task == "panoptic"
    assert "transformers" in sys.modules
