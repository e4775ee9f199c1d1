"""What a second trunk sees of the whole photo, for regions that a crop alone does not explain."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from maskclip import detector
from maskclip.detector import Detector
from maskclip.hybrid import build_trunk
from maskclip.trunk_weights import load_trunk_weights
from proposal.inference_copy import InferenceCopy

LONG_SIDE = 513  # pixels of the photo that the trunk reads: those of DeepLab's training
MOST_ENLARGED = 2.0  # a smaller photo gets no larger than that
STRIDE = 16
CHANNELS = 320  # of that trunk's map
TOKENS = 2  # of a region: the mean over its mask, the mean over the photo


class PhotoContext(nn.Module):
    """A frozen MobileNetV2 that reads each photo once, however many regions it has.

    Ours: a crop shows a small thing (a fork, a mouse) without what it lies on, and no more pixels
    than it has; a map of the whole photo knows both, at the price of one pass a photo. Regions
    pool it as F-VLM (arXiv 2209.15639) pools its own. With a detector there are two trunks, whose
    maps lie on one grid.
    N: regions, F: channels of all maps, H x W: the photo, h x w: the masks, u x v: the grid.
    """

    def __init__(self, *, detector_too: bool = False) -> None:
        """``detector_too``: a detector reads the photo as well."""
        super().__init__()
        self.trunk = build_trunk(STRIDE, head=False)
        self.detector = Detector() if detector_too else None
        self._inference = InferenceCopy()
        self.requires_grad_(False)
        self.eval()
        self.channels = count_channels(detector_too)  # F
        self.shape = TOKENS, self.channels  # of a region's context

    def train(self, mode: bool = True) -> PhotoContext:
        """It stays as it is: its statistics are part of its weights."""
        del mode
        return super().train(False)

    def load(self, path: str | Path) -> None:
        """Take the trunk of a safetensors file in timm's MobileNetV2 names.

        Raises:
            FileNotFoundError, ValueError: as ``load_trunk_weights``.
        """
        load_trunk_weights(self.trunk, path)

    @torch.no_grad()
    def see(self, image: np.ndarray) -> Tensor:
        """(H, W, 3) uint8 RGB -> (F, u, v)."""
        weight = next(self.parameters())
        pixels = deeplab_pixels(image, weight.device, LONG_SIDE, MOST_ENLARGED).to(weight.dtype)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        seen = self._inference.of(self.trunk)(pixels)[-1][0].float()
        if self.detector is None:
            return seen
        return torch.cat([seen, self.detector.see(pixels, seen.shape[1:]).float()])

    def pool(self, seen: Tensor, masks: Tensor) -> Tensor:
        """(F, u, v) and (N, h, w) bool -> (N, 2, F): means over each mask, and over the photo."""
        shares = F.adaptive_avg_pool2d(masks.to(seen)[:, None], seen.shape[1:])[:, 0]  # (N, u, v)
        shares = shares / shares.sum(dim=(1, 2), keepdim=True).clamp(min=1e-6)
        inside = torch.einsum("fuv,nuv->nf", seen, shares)
        whole = seen.mean(dim=(1, 2)).expand_as(inside)
        return torch.stack([inside, whole], dim=1)


def deeplab_pixels(
    image: np.ndarray, device: torch.device, long_side: int, most_enlarged: float = math.inf
) -> Tensor:
    """(H, W, 3) uint8 RGB -> (1, 3, h, w) in [-1, 1], resized, as DeepLab's trunk reads photos."""
    height, width = image.shape[:2]
    scale = min(long_side / max(height, width), most_enlarged)
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    resized = np.array(Image.fromarray(image).resize(size_wh, Image.Resampling.BILINEAR))
    return torch.from_numpy(resized).to(device).permute(2, 0, 1)[None].float() / 127.5 - 1


def count_channels(detector_too: bool) -> int:
    """F: the channels of all that is seen of a photo."""
    return CHANNELS + (detector.CHANNELS if detector_too else 0)


class TrunkTokens(nn.Module):
    """Makes tokens for a transformer of what one trunk saw. E: the transformer's width."""

    def __init__(self, channels: int, width: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)
        self.proj = nn.ModuleList(nn.Linear(channels, width) for _ in range(TOKENS))

    def forward(self, context: Tensor) -> Tensor:
        """(N, 2, channels) -> (N, 2, E)."""
        parts = self.dropout(self.norm(context)).unbind(dim=1)
        return torch.stack([proj(p) for proj, p in zip(self.proj, parts, strict=True)], dim=1)


class ContextTokens(TrunkTokens):
    """Makes tokens of a region's context: the sums of what each trunk has to say."""

    def __init__(self, width: int, *, detector_too: bool = False) -> None:
        super().__init__(CHANNELS, width)
        self.detector = TrunkTokens(detector.CHANNELS, width) if detector_too else None

    def forward(self, context: Tensor) -> Tensor:
        """(N, 2, F) -> (N, 2, E)."""
        if self.detector is None:
            return super().forward(context)
        seen, detected = context.tensor_split([CHANNELS], dim=2)
        return super().forward(seen) + self.detector(detected)
