"""A soft box per query, within which its mask is expected."""

from __future__ import annotations

import torch
from torch import Tensor, nn

GAIN = 3.0  # logit in the middle of a box at the start; far from it minus that


class SoftBoxes(nn.Module):
    """Gaussians around boxes that start at anchors and that the queries move and resize.

    Ours, for small data: a network without them learns only from masks alone where one instance
    ends and the next begins, which takes DETR-like networks hundreds of thousands of photos.
    B: images, Q: queries, E: width, h x w: the masks' grid.
    """

    def __init__(self, points: Tensor, radii: Tensor, width: int) -> None:
        super().__init__()
        sizes = radii.log()[:, None].expand(-1, 2)
        self.anchors = nn.Parameter(torch.cat([points.logit(), sizes], dim=1))  # (Q, 4)
        self.offsets = nn.Linear(width, 4)
        self.gain = nn.Parameter(torch.tensor(GAIN))
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.offsets.bias)

    def forward(self, queries: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """(B, Q, E) queries -> (B, Q, h, w) logits: the gain inside, minus the gain far outside."""
        boxes = self.anchors + self.offsets(queries)  # (B, Q, 4)
        centres, radii = boxes[..., :2].sigmoid(), boxes[..., 2:].clamp(-5, 2).exp()
        profiles = []
        for axis, size in enumerate(size_hw):
            cells = (torch.arange(size, device=queries.device) + 0.5) / size
            distances = (cells - centres[..., axis, None]) / radii[..., axis, None]
            profiles.append((-distances.square() / 2).exp())  # (B, Q, h), then (B, Q, w)
        inside = profiles[0][..., :, None] * profiles[1][..., None, :]  # (B, Q, h, w)
        return self.gain * (2 * inside - 1)
