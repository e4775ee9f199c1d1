"""Class-agnostic quality of proposals: COCO's average recall, with the best overlap."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from proposal.proposals import Proposals

IOUS = np.linspace(0.5, 0.95, 10)  # as COCOeval makes them, to the last bit
COUNTS = (10, 100, 1000)  # proposals that may answer, the best scores first
# COCO's areas in pixels of the photo
SIZES = {
    "": (0, 1e10),
    "_small": (0, 32**2),
    "_medium": (32**2, 96**2),
    "_large": (96**2, 1e10),
}
CHUNK_PIXELS = 1 << 23  # of masks enlarged at a time, 32 MiB


@dataclass(frozen=True)
class Truth:
    """The objects of one photo; crowds are left out, and cost nothing. M: objects."""

    masks: np.ndarray  # (M, H, W) bool
    areas: np.ndarray  # (M,) as the data set states them, which sorts objects by size


@dataclass(frozen=True)
class PhotoRecall:
    """What one photo adds to the recall; plain numbers, so that it can lie in a file."""

    found: dict[str, list[list[int]]]  # size -> (counts, IoUs) objects found
    wanted: dict[str, int]  # size -> objects
    best: list[float]  # best IoU of each object


def proposal_recall(
    photos: Iterable[tuple[Proposals, Truth]], *, threshold: float = 0.5
) -> dict[str, float]:
    """Proposals with the truth, photo by photo -> percent; NaN where nothing was to be found.

    ``AR@10``, ``AR@100``, ``AR@1000``, each also ``_small``, ``_medium``, ``_large``: recall at
    IoU .5 to .95, averaged, as COCOeval counts it without categories; and ``best_overlap``: the
    mean over all objects of the best proposal's IoU.
    """
    return recall_metrics(photo_recall(each, truth, threshold) for each, truth in photos)


def photo_recall(proposals: Proposals, truth: Truth, threshold: float = 0.5) -> PhotoRecall:
    """One photo's proposals and truth -> its share of the recall."""
    order = proposals.scores.sort(descending=True, stable=True).indices[: COUNTS[-1]]
    overlaps = mask_ious(proposals.mask_probs[order], truth.masks, threshold)  # (Q, M)
    found, wanted = {}, {}
    for size, (low, high) in SIZES.items():
        inside = (truth.areas >= low) & (truth.areas <= high)
        found[size] = count_found(overlaps[:, inside]).astype(int).tolist()
        wanted[size] = int(inside.sum())
    return PhotoRecall(found, wanted, [float(iou) for iou in overlaps.max(axis=0, initial=0)])


def recall_metrics(photos: Iterable[PhotoRecall]) -> dict[str, float]:
    """The shares of all photos -> the metrics of ``proposal_recall``."""
    found = {size: np.zeros((len(COUNTS), len(IOUS))) for size in SIZES}
    wanted = dict.fromkeys(SIZES, 0)
    best: list[float] = []
    for photo in photos:
        best += photo.best
        for size in SIZES:
            found[size] += np.array(photo.found[size])
            wanted[size] += photo.wanted[size]
    metrics = {
        f"AR@{count}{size}": 100 * _ratio(found[size][row].mean(), wanted[size])
        for size in SIZES
        for row, count in enumerate(COUNTS)
    }
    return metrics | {"best_overlap": 100 * _ratio(sum(best), len(best))}


def mask_ious(mask_probs: Tensor, masks: np.ndarray, threshold: float) -> np.ndarray:
    """(Q, h, w) mask_probs, (M, H, W) bool -> (Q, M) IoUs on the photo's pixels."""
    size_hw = masks.shape[1:]
    truth = torch.from_numpy(masks).flatten(1).to(mask_probs.device, torch.float32)  # (M, P)
    if len(mask_probs) == 0 or len(masks) == 0:
        return np.zeros((len(mask_probs), len(masks)))
    rows = []
    for chunk in mask_probs.split(max(1, CHUNK_PIXELS // max(1, size_hw[0] * size_hw[1]))):
        if chunk.shape[1:] != size_hw:
            chunk = F.interpolate(
                chunk[None].float(), size_hw, mode="bilinear", align_corners=False
            )[0]
        found = (chunk > threshold).flatten(1).float()  # (Q, P)
        shared = found @ truth.mT
        unions = found.sum(1, keepdim=True) + truth.sum(1) - shared
        # Both are whole numbers; their ratio must not be rounded across one of the IoUs
        rows.append((shared.double() / unions.double().clamp(min=1)).cpu().numpy())
    return np.concatenate(rows)


def count_found(overlaps: np.ndarray) -> np.ndarray:
    """(Q, M) IoUs, best scores first -> (counts, IoUs): objects found by the first proposals.

    COCO's greedy matching: each proposal in turn takes the object it overlaps most of those that
    are left (of equals the last). Objects that COCO ignores change nothing here: a proposal takes
    one only when no other object is left for it.
    """
    objects = overlaps.shape[1]
    left = np.ones((len(IOUS), objects), dtype=bool)
    found = np.zeros((len(COUNTS), len(IOUS)))
    useful = np.flatnonzero((overlaps >= IOUS[0]).any(axis=1)) if objects else []
    for row in useful:
        fits = np.where(left & (overlaps[row] >= IOUS[:, None]), overlaps[row], -1.0)
        chosen = objects - 1 - fits[:, ::-1].argmax(axis=1)  # (IoUs,)
        hits = np.flatnonzero(fits[np.arange(len(IOUS)), chosen] >= 0)
        left[hits, chosen[hits]] = False
        for place, count in enumerate(COUNTS):
            if row < count:
                found[place, hits] += 1
    return found


def _ratio(part: float, whole: int) -> float:
    return float(part) / whole if whole else float("nan")
