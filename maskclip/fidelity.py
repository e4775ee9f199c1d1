"""How far a model is from the published system's outputs on a reference folder, stage by stage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from maskclip.crops import crop_regions, region_boxes
from maskclip.images import load_image
from maskclip.published import load_published
from maskclip.segmentor import Segmentor
from proposal.maskformer import TEMPERATURE
from proposal.maskformer_proposer import MaskFormerProposer, padded_size

CHECKPOINT, CONFIG, EXPECTED = "reference.pth", "config.json", "expected.safetensors"
STORED = (
    *("resized_rgb", "mask_logits", "valid", "crops", "region_embeddings", "clip_logits"),
    *("sem_seg_labels", "sem_seg_stride8"),
)
STORED_CROPS = 3  # of each photo
STORED_STRIDE = 8  # of the scores
FEW = 0.9  # of the regions must be near: single pixels of a mask may fall on the other side
# What counts as equal, by the README of the references. An embedding that is off by a thousandth of
# its length moves a logit by 0.1.
TOLERANCES = {
    "resized photo (of 255)": 0.0,
    "mask logits": 0.05,
    "valid (proposals that differ)": 0.0,
    "crops (of 255)": 0.2,
    "region embeddings (relative, 9 in 10)": 0.001,
    "text embeddings": 1e-4,
    "CLIP logits (9 in 10)": 0.1,
    "scores (of the largest)": 0.01,
    "scores, mean (of the largest)": 0.001,
    "labels (share that differs)": 0.005,
}


@dataclass(frozen=True)
class Difference:
    """The largest difference of one stage, over all photos of a reference folder."""

    stage: str
    largest: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether it counts as equal."""
        return self.largest <= self.tolerance


@dataclass(frozen=True)
class _Photo:
    """One photo with what was expected of it, its number cut off the names."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    expected: dict[str, Tensor]


def compare_reference(folder: str | Path, model: str | Path | None = None) -> list[Difference]:
    """A folder like shared/reference/swin -> the difference of each stage.

    ``model`` is a converted checkpoint; without it, the folder's own is converted on the fly.
    Thresholds and sizes are the model's.

    Raises:
        FileNotFoundError: a file of the folder is missing.
        ValueError: a file is damaged, or does not fit the others.
    """
    folder = Path(folder)
    expected, names = _read_expected(folder)
    if model is None:
        segmentor = load_published(folder / CHECKPOINT, folder / CONFIG)
    else:
        segmentor = Segmentor.from_pretrained(model)
    if not isinstance(segmentor.proposer, MaskFormerProposer):
        raise ValueError(f"{model} has no maskformer: only converted OVSeg checkpoints compare")
    worst = dict.fromkeys(TOLERANCES, 0.0)
    texts = expected["text_embeddings"]
    for path in sorted(folder.glob("image_*.*")):
        prefix = f"{path.stem.removeprefix('image_')}."
        own = {k.removeprefix(prefix): v for k, v in expected.items() if k.startswith(prefix)}
        missing = [key for key in STORED if key not in own]
        if missing:
            raise ValueError(f"{folder / EXPECTED} has no {prefix}{missing[0]} of {path.name}")
        photo = _Photo(load_image(path), own)
        for stage, value in _compare_photo(segmentor, photo, names, texts).items():
            worst[stage] = max(worst[stage], value)
    return [Difference(stage, value, TOLERANCES[stage]) for stage, value in worst.items()]


def format_table(differences: Sequence[Difference]) -> str:
    """-> a Markdown table, one line for each stage."""
    width = max(len(each.stage) for each in differences)
    lines = [f"| {'stage'.ljust(width)} | largest | allowed |        |"]
    lines.append(f"| {'-' * width} | ------: | ------: | ------ |")
    for each in differences:
        verdict = "ok" if each.ok else "NOT OK"
        numbers = " | ".join(f"{value:7.2g}" for value in (each.largest, each.tolerance))
        lines.append(f"| {each.stage.ljust(width)} | {numbers} | {verdict:6} |")
    return "\n".join(lines)


def _read_expected(folder: Path) -> tuple[dict[str, Tensor], list[str]]:
    """What was expected, for which names."""
    for name in (CHECKPOINT, CONFIG, EXPECTED, "image_0.jpg"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no reference folder: it has no {name}")
    try:
        names = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["class_names"]
        expected = load_file(folder / EXPECTED)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} is a damaged reference folder: {error}") from error
    if "text_embeddings" not in expected:
        raise ValueError(f"{folder / EXPECTED} has no text_embeddings")
    return expected, names


@torch.no_grad()
def _compare_photo(
    segmentor: Segmentor, photo: _Photo, names: Sequence[str], texts: Tensor
) -> dict[str, float]:
    stages = _compare_proposals(segmentor.proposer, photo)
    stages |= _compare_regions(segmentor, photo, names, texts)
    result = segmentor.segment(photo.image, names, return_scores=True)
    scores = torch.from_numpy(result.scores)[:, ::STORED_STRIDE, ::STORED_STRIDE]
    wanted = photo.expected["sem_seg_stride8"]
    error = (scores - wanted).abs() / wanted.max()
    differ = result.labels != photo.expected["sem_seg_labels"].numpy()
    return {
        **stages,
        "scores (of the largest)": float(error.max()),
        "scores, mean (of the largest)": float(error.mean()),
        "labels (share that differs)": float(differ.mean()),
    }


def _compare_proposals(proposer: MaskFormerProposer, photo: _Photo) -> dict[str, float]:
    config = proposer.network.config
    pixels = proposer.resize(photo.image)  # (3, h, w)
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (config.pixel_mean, config.pixel_std)
    )
    size_hw = padded_size(pixels.shape[1:], config.size_divisibility)
    mask_logits = proposer.ask([pixels], size_hw).mask_logits[0]  # (Q, h / 4, w / 4)
    return {
        "resized photo (of 255)": _largest(
            (pixels * std + mean).round(), photo.expected["resized_rgb"]
        ),
        "mask logits": _largest(mask_logits, photo.expected["mask_logits"]),
    }


def _compare_regions(
    segmentor: Segmentor, photo: _Photo, names: Sequence[str], texts: Tensor
) -> dict[str, float]:
    clip, threshold = segmentor.clip, segmentor.config.mask_threshold
    proposals = segmentor.proposer.propose(photo.image)
    keep, boxes_xyxy = region_boxes(proposals.mask_probs, threshold)
    crops, crop_masks = crop_regions(
        photo.image,
        proposals.mask_probs[keep] > threshold,
        boxes_xyxy,
        clip.side,
        clip.fill_colour,
        compat=segmentor.config.compat,
    )
    if not clip.config.mask_prompts:
        crop_masks = torch.ones_like(crop_masks)
    embeddings = clip.tower(clip.normalise(crops), crop_masks)  # (N, D)
    own = torch.cat(
        [clip.encode_names(names)[0], F.normalize(proposals.no_object, dim=0)[None]]
    )  # (C + 1, D)
    logits = TEMPERATURE * F.normalize(embeddings, dim=1) @ own.mT  # (N, C + 1)
    stages = {
        "valid (proposals that differ)": float((keep != photo.expected["valid"]).sum()),
        "crops (of 255)": _largest(crops[:STORED_CROPS], photo.expected["crops"]),
        "text embeddings": _largest(own, texts),
    }
    wanted, wanted_logits = photo.expected["region_embeddings"], photo.expected["clip_logits"]
    if len(embeddings) != len(wanted):
        nothing_to_compare = float("inf")
        return stages | {
            "region embeddings (relative, 9 in 10)": nothing_to_compare,
            "CLIP logits (9 in 10)": nothing_to_compare,
        }
    relative = (embeddings - wanted).norm(dim=1) / wanted.norm(dim=1)  # (N,)
    off = (logits - wanted_logits).abs().amax(dim=1)  # (N,)
    return stages | {
        "region embeddings (relative, 9 in 10)": _of_most(relative),
        "CLIP logits (9 in 10)": _of_most(off),
    }


def _largest(ours: Tensor, wanted: Tensor) -> float:
    """The largest absolute difference; infinite where shapes differ, 0 of nothing."""
    if ours.shape != wanted.shape:
        return float("inf")
    return float((ours - wanted.float()).abs().max()) if ours.numel() else 0.0


def _of_most(errors: Tensor) -> float:
    """(N,) -> what nine in ten do not exceed."""
    if not len(errors):
        return 0.0
    allowed = int((1 - FEW) * len(errors) + 1e-9)  # that may be larger
    return float(errors.sort().values[len(errors) - 1 - allowed])
