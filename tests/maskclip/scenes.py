"""Masks and names to be made into a picture."""

import torch
from torch.nn import functional as F


def make_scene(q, c, h, w, *, sharpness=4.0, seed=0):
    """Smooth masks, as an upsampled network's, and names of which several are close."""
    random = torch.Generator().manual_seed(seed)
    class_probs = (sharpness * torch.randn(q, c, generator=random)).softmax(1)
    mask_logits = 4 * torch.randn(1, q, h // 4 + 1, w // 4 + 1, generator=random)
    return class_probs, F.interpolate(mask_logits, (h, w), mode="bilinear")[0].sigmoid()
