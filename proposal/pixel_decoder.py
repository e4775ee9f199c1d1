"""A feature pyramid that ends in one embedding per pixel."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from proposal.transformer_decoder import grid_positions


class ConvNorm(nn.Conv2d):
    """A convolution whose GroupNorm is its child ``norm``: the published parameter names."""

    def __init__(self, in_channels: int, out_channels: int, size: int, *, relu: bool) -> None:
        super().__init__(in_channels, out_channels, size, padding=size // 2, bias=False)
        self.norm = nn.GroupNorm(32, out_channels)
        self.relu = relu
        nn.init.kaiming_uniform_(self.weight, a=1)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, in, h, w) -> (B, out, h, w)."""
        maps = self.norm(super().forward(maps))
        return F.relu(maps) if self.relu else maps


class PixelDecoder(nn.Module):
    """SPEC 1's pyramid, top down, without any special operator.

    B: images, h x w: the grid at stride 4, channels: of the backbone's four maps, finest first.
    """

    def __init__(self, channels: tuple[int, ...], conv_dim: int, mask_dim: int) -> None:
        super().__init__()
        for level, width in enumerate(channels[:-1], start=1):
            self.add_module(f"adapter_{level}", ConvNorm(width, conv_dim, 1, relu=False))
            self.add_module(f"layer_{level}", ConvNorm(conv_dim, conv_dim, 3, relu=True))
        self.levels = len(channels)
        self.add_module(f"layer_{self.levels}", ConvNorm(channels[-1], conv_dim, 3, relu=True))
        self.mask_features = nn.Conv2d(conv_dim, mask_dim, 3, padding=1)
        nn.init.kaiming_uniform_(self.mask_features.weight, a=1)
        nn.init.zeros_(self.mask_features.bias)

    def forward(self, maps: tuple[Tensor, ...], places: bool = False) -> Tensor:
        """Four maps at strides 4, 8, 16, 32 -> (B, mask_dim, h, w) embeddings at stride 4.

        With places, pixels are told where they are by sine codes added before the last layer.
        """
        pyramid = self.get_submodule(f"layer_{self.levels}")(maps[-1])
        for level in range(self.levels - 1, 0, -1):
            lateral = self.get_submodule(f"adapter_{level}")(maps[level - 1])
            above = F.interpolate(pyramid, size=lateral.shape[-2:], mode="nearest")
            pyramid = self.get_submodule(f"layer_{level}")(lateral + above)
        if places:
            height, width = pyramid.shape[-2:]
            codes = grid_positions(height, width, pyramid.shape[1], pyramid.device)  # (h * w, E)
            pyramid = pyramid + codes.mT.unflatten(1, (height, width))
        return self.mask_features(pyramid)
