"""A learned pattern on the pixels of a region, which shows CLIP what is asked about."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PixelPrompt(nn.Module):
    """I' = I + alpha * M * P on normalised crops, P being learned (SPEC 3).

    A crop may be the whole photo (a ``box_margin`` of 1000), with background attenuated by
    ``background="attenuate"``: beta is then ``background_strength``. P starts at 0, at which the
    tower sees what it saw before. N: crops, S: their side.
    """

    def __init__(self, strength: float, side: int) -> None:
        """alpha, and S."""
        super().__init__()
        self.strength = strength
        self.pattern = nn.Parameter(torch.zeros(3, side, side))

    def forward(self, crops: Tensor, crop_masks: Tensor) -> Tensor:
        """(N, 3, S, S) normalised crops and (N, S, S) bool masks -> (N, 3, S, S)."""
        return crops + self.strength * crop_masks[:, None] * self.pattern.to(crops.dtype)
