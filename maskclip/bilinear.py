"""Where the pixels of one grid lie between those of another that covers the same photo."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """Where each of n output pixels lies between two of a grid's pixels, along one axis."""

    low: Tensor  # (n,) int64
    high: Tensor  # (n,) int64
    share: Tensor  # (n,) float in [0, 1), the weight of ``high``


def place_axis(length: int, count: int, device: torch.device) -> Axis:
    """Bilinear interpolation from ``length`` to ``count`` pixels; corners are not aligned."""
    scale = torch.tensor(length / count, dtype=torch.float32)
    place = (scale * (torch.arange(count) + 0.5) - 0.5).clamp(min=0)
    low = place.long().clamp(max=length - 1)
    high = (low + 1).clamp(max=length - 1)
    return Axis(low.to(device), high.to(device), (place - low).to(device))


def interpolate(grid: Tensor, rows: Axis, columns: Axis) -> Tensor:
    """(h, w) -> (H, W)."""
    wide = torch.lerp(grid[:, columns.low], grid[:, columns.high], columns.share)  # (h, W)
    return torch.lerp(wide[rows.low], wide[rows.high], rows.share[:, None])
