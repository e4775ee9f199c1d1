"""A small detector of COCO's objects, of which photos are seen but no boxes are asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskclip.tfjs_weights import read_convolutions

WIDTH = 128  # channels of each level
LEVELS = 3  # at strides 8, 16 and 32
CHANNELS = LEVELS * WIDTH
BLOCKS = ((32, 1, 1), (64, 2, 2), (128, 2, 2), (256, 3, 2))  # channels, residuals, stride
SLOPE = 0.1  # of LeakyReLU
MEAN = (103.53, 116.28, 123.675)  # of BGR in [0, 255]
STD = (57.375, 57.12, 58.395)


class Detector(nn.Module):
    """NanoDet-g's backbone and path aggregation, without the heads that find boxes.

    NanoDet (github.com/RangiLyu/nanodet, Apache-2.0) is a one-stage detector; this is the size
    whose layers are all plain convolutions, trained on COCO's boxes with 80 names. Its three levels
    know what things are where boxes of their size lie.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        self.blocks = nn.ModuleList(CspBlock(*sizes) for sizes in BLOCKS)
        self.laterals = nn.ModuleList(nn.Conv2d(2 * sizes[0], WIDTH, 1) for sizes in BLOCKS[1:])
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def load(self, path: str | Path) -> None:
        """Take the weights of a TensorFlow.js graph model (JSON) of NanoDet-g.

        Raises:
            FileNotFoundError, ValueError: as ``read_convolutions``; or it is another network.
        """
        convolutions = read_convolutions(path)
        own = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        for place, module in enumerate(own):
            stored = convolutions[place] if place < len(convolutions) else None
            if stored is None or stored.weight.shape != module.weight.shape:
                got = "none" if stored is None else tuple(stored.weight.shape)
                raise ValueError(
                    f"{path} is no NanoDet-g: its convolution {place} must be "
                    f"{tuple(module.weight.shape)}, got {got}"
                )
            module.load_state_dict({"weight": stored.weight, "bias": stored.bias})

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(N, 3, h, w) RGB in [-1, 1] -> three maps (N, 128, …) at strides 8, 16 and 32."""
        bgr = ((pixels.flip(1) + 1) * 127.5 - self.mean) / self.std
        seen = F.max_pool2d(F.leaky_relu(self.stem(bgr), SLOPE), 3, 2, 1)
        maps = []
        for block in self.blocks:
            seen = block(seen)
            maps.append(seen)
        low, middle, high = (
            lateral(each) for lateral, each in zip(self.laterals, maps[1:], strict=True)
        )
        middle = middle + _like(high, middle)
        low = low + _like(middle, low)
        middle = middle + _like(low, middle)
        return [low, middle, high + _like(middle, high)]

    def see(self, pixels: Tensor, size_hw: Sequence[int]) -> Tensor:
        """(1, 3, h, w) RGB in [-1, 1] -> (384, u, v): all levels on one grid."""
        u, v = size_hw
        levels = self(pixels)
        return torch.cat(
            [
                F.adaptive_avg_pool2d(level, (u, v))
                if level.shape[2] >= u and level.shape[3] >= v
                else F.interpolate(level, (u, v), mode="bilinear", align_corners=False)
                for level in levels
            ],
            dim=1,
        )[0]


class CspBlock(nn.Module):
    """A stage of the backbone: (N, C, h, w) -> (N, 2 C, h / stride, w / stride)."""

    def __init__(self, channels: int, residuals: int, stride: int) -> None:
        super().__init__()
        half = channels // 2
        self.enter = nn.Conv2d(channels, channels, 3, stride, 1)
        self.residuals = nn.ModuleList(
            nn.ModuleList([nn.Conv2d(channels, half, 3, 1, 1), nn.Conv2d(half, half, 3, 1, 1)])
            for _ in range(residuals)
        )
        self.leave = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, seen: Tensor) -> Tensor:
        """The map before -> after."""
        entered = F.leaky_relu(self.enter(seen), SLOPE)
        inner = entered
        for first, second in self.residuals:
            one = F.leaky_relu(first(inner), SLOPE)
            inner = torch.cat([F.leaky_relu(second(one), SLOPE), one], dim=1)
        return torch.cat([F.leaky_relu(self.leave(inner), SLOPE), entered], dim=1)


def _like(level: Tensor, other: Tensor) -> Tensor:
    return F.interpolate(level, other.shape[-2:], mode="bilinear", align_corners=False)
