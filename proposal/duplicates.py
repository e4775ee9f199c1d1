"""Masks that say the same are kept once."""

from __future__ import annotations

import torch
from torch import Tensor

_VALUES_AT_ONCE = 1 << 24  # of masks as numbers, 64 MiB


def distinct_masks(masks: Tensor, scores: Tensor, iou: float) -> Tensor:
    """(Q, h, w) bool, (Q,) -> (K,) int64: which masks to keep, best scores first.

    Greedy suppression: a mask goes if its IoU with a better one that stays is ``iou`` or more. Of
    equal scores the first is the better one. Masks without a pixel are nobody's duplicates.
    """
    order = scores.sort(descending=True, stable=True).indices  # (Q,)
    ious = pairwise_ious(masks[order]).cpu()
    same = (ious >= iou).numpy()
    dropped = [False] * len(order)
    for row in range(len(order)):
        if not dropped[row]:
            for twin in same[row, row + 1 :].nonzero()[0]:
                dropped[row + 1 + twin] = True
    return order[~torch.tensor(dropped, dtype=torch.bool, device=order.device)]


def pairwise_ious(masks: Tensor) -> Tensor:
    """(Q, h, w) bool -> (Q, Q) float IoUs; 0 where neither has a pixel."""
    flat = masks.flatten(1)  # (Q, P)
    shared = torch.zeros(len(flat), len(flat), device=flat.device)
    for block in flat.split(max(1, _VALUES_AT_ONCE // max(1, len(flat))), dim=1):
        values = block.float()
        shared += values @ values.mT  # whole numbers, exact up to 16 million pixels
    areas = shared.diagonal()
    return shared / (areas[:, None] + areas - shared).clamp(min=1)
