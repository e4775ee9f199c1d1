"""What lies behind a Segmentation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Regions:
    """What lies behind a Segmentation: each proposal and what CLIP made of it.

    Q: proposals, N: those that yielded a crop, C: names, K: synonyms, D: embedding size,
    h x w: size of the masks.
    """

    mask_probs: Tensor  # (Q, h, w)
    mask_threshold: float  # above it a pixel belongs to the mask
    scores: Tensor  # (Q,) objectness
    class_probs: Tensor  # (Q, C)
    keep: Tensor  # (Q,) bool
    region_embeddings: Tensor  # (N, D) unit length
    text_embeddings: Tensor  # (K, D) unit length

    def masks(self, size_hw: tuple[int, int]) -> np.ndarray:
        """The proposals at the size of the photo -> (Q, H, W) bool."""
        masks = np.zeros((len(self.mask_probs), *size_hw), dtype=bool)
        for mask, probs in zip(masks, self.mask_probs, strict=True):  # one at a time: memory
            mask[:] = mask_at_size(probs, self.mask_threshold, size_hw)
        return masks


def mask_at_size(mask_probs: Tensor, threshold: float, size_hw: tuple[int, int]) -> np.ndarray:
    """(h, w) probabilities of one mask -> (H, W) bool: the mask at the size of the photo."""
    probs = mask_probs[None, None].float()  # (1, 1, h, w)
    probs = F.interpolate(probs, size_hw, mode="bilinear", align_corners=False)
    return (probs[0, 0] > threshold).cpu().numpy()  # (H, W)
