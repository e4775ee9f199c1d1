"""Points at which masks are compared instead of at every pixel (PointRend, arXiv 1912.08193)."""

from __future__ import annotations

import torch
from detectron2.projects.point_rend.point_features import (
    get_uncertain_point_coords_with_randomness,
    point_sample,
)
from torch import Tensor

OVERSAMPLE = 3.0  # candidates for each point that is taken
UNSURE_SHARE = 0.75  # of the points lie where the logits are nearest to 0, the others anywhere


@torch.no_grad()
def unsure_points(logits: Tensor, count: int) -> Tensor:
    """(K, h, w) logits -> (K, count, 2) points, x and y in [0, 1]."""
    return get_uncertain_point_coords_with_randomness(
        logits[:, None], _doubt, count, OVERSAMPLE, UNSURE_SHARE
    )


def _doubt(logits: Tensor) -> Tensor:
    """The higher, the less sure."""
    return -logits.abs()


def interpolate_at(maps: Tensor, points: Tensor) -> Tensor:
    """(K, C, h, w) maps, (K, P, 2) points -> (K, C, P), bilinear between the cells' centres.

    Beyond the outermost centres the maps go on as they are, as where they are enlarged.
    """
    return point_sample(maps, points, align_corners=False, padding_mode="border")


def pick_at(masks: Tensor, points: Tensor) -> Tensor:
    """(K, C, H, W) of any type, (K, P, 2) points -> (K, C, P), the pixels that hold the points."""
    height, width = masks.shape[-2:]
    columns = (points[..., 0] * width).long().clamp(0, width - 1)  # (K, P)
    rows = (points[..., 1] * height).long().clamp(0, height - 1)
    places = (rows * width + columns)[:, None].expand(-1, masks.shape[1], -1)  # (K, C, P)
    return masks.flatten(2).gather(2, places)
