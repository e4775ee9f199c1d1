"""How often a MaskClip gives a ground-truth mask its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskclip.clip import MaskClip
from maskclip.crops import region_boxes
from maskclip.fuse import name_logits


@dataclass(frozen=True)
class RegionAccuracy:
    """Shares of regions, in percent, whose best name is the true one."""

    top1: float  # over all regions
    mean_per_class: float  # averaged over the names that have regions
    per_class: dict[str, float]
    regions: int


def region_accuracy(
    said: Sequence[int] | np.ndarray, true: Sequence[int] | np.ndarray, names: Sequence[str]
) -> RegionAccuracy:
    """N indices said and N true ones into C names -> the accuracies; 0 without regions."""
    said, true = np.asarray(said, dtype=np.int64), np.asarray(true, dtype=np.int64)
    if said.shape != true.shape or said.ndim != 1:
        raise ValueError(f"expected N names said and N true ones, got {said.shape}, {true.shape}")
    hits = said == true
    count = np.bincount(true, minlength=len(names))  # (C,)
    share = 100 * np.bincount(true, weights=hits, minlength=len(names)) / np.maximum(count, 1)
    present = np.flatnonzero(count)
    return RegionAccuracy(
        top1=float(100 * hits.mean()) if len(hits) else 0.0,
        mean_per_class=float(share[present].mean()) if len(present) else 0.0,
        per_class={names[index]: float(share[index]) for index in present},
        regions=len(true),
    )


def top_k(logits: np.ndarray, true: Sequence[int] | np.ndarray, k: int) -> float:
    """(N, C) and N true indices -> percent of regions with the true name among the k best ones.

    0 without regions.
    """
    true = np.asarray(true, dtype=np.int64)
    if logits.ndim != 2 or len(logits) != len(true):
        raise ValueError(f"expected (N, C) logits and N names, got {logits.shape}, {true.shape}")
    best = np.argsort(-logits, axis=1, kind="stable")[:, :k]  # (N, k)
    return 100 * float((best == true[:, None]).any(axis=1).mean()) if len(true) else 0.0


@torch.inference_mode()
def classify_masks(
    clip: MaskClip, image: np.ndarray, masks: np.ndarray, names: Sequence[str]
) -> Tensor:
    """(H, W, 3) uint8 RGB, masks (N, H, W) bool none of which is empty, C names -> (N, C) logits.

    Crops are made as the Segmentor makes them outside ``compat``.
    """
    masks = torch.from_numpy(np.ascontiguousarray(masks))
    keep, boxes_xyxy = region_boxes(masks, 0.5)
    if not keep.all():
        raise ValueError(f"every mask must have a pixel, got {int((~keep).sum())} empty ones")
    crops, crop_masks = clip.crop(image, masks, boxes_xyxy)
    context = clip.context(clip.see(image), masks)
    embeddings = clip.encode_regions(crops, crop_masks, context)  # (N, D)
    text_embeddings, owner = clip.encode_names(names)
    return name_logits(embeddings, text_embeddings, owner, clip.logit_scale)
