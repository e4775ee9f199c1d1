"""Masks that say the same are kept once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def distinct_masks(masks: Tensor, scores: Tensor, iou: float) -> Tensor:
    """(Q, h, w) bool, (Q,) -> (K,) int64: which masks to keep, best scores first.

    Greedy suppression: a mask goes if its IoU with a better one that stays is ``iou`` or more. Of
    equal scores the first is the better one. Masks without a pixel are nobody's duplicates.
    """
    order = scores.sort(descending=True, stable=True).indices  # (Q,)
    bits = _pack(masks[order])
    areas = np.bitwise_count(bits).sum(axis=1, dtype=np.int64)
    stays = np.ones(len(bits), dtype=bool)
    for row in np.flatnonzero(areas):
        if not stays[row]:
            continue
        rest = row + 1 + np.flatnonzero(stays[row + 1 :])
        smaller, larger = np.minimum(areas[row], areas[rest]), np.maximum(areas[row], areas[rest])
        rest = rest[smaller >= iou * larger]  # others cannot overlap so much
        shared = np.bitwise_count(bits[rest] & bits[row]).sum(axis=1, dtype=np.int64)
        stays[rest[shared >= iou * (areas[row] + areas[rest] - shared)]] = False
    return order[torch.from_numpy(stays).to(order.device)]


def _pack(masks: Tensor) -> np.ndarray:
    """(Q, h, w) bool -> (Q, ceil(h * w / 64)) uint64, a pixel a bit."""
    flat = masks.flatten(1).cpu().numpy()
    padded = np.pad(flat, ((0, 0), (0, -flat.shape[1] % 64)))
    return np.packbits(padded, axis=1).view(np.uint64)
