"""DETR's transformer: learned queries read what they need from a feature map."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sine_positions(y: Tensor, x: Tensor, width: int) -> Tensor:
    """(..., ) coordinates in [0, 1] twice -> (..., width) codes: first of y, then of x.

    DETR's normalised encoding: half the channels for each axis, sine and cosine of 2 pi times the
    coordinate at frequencies that fall from 1 to 1/10000. The order of these operations is DETR's,
    too: published networks with steep attention magnify the last bit of a code.
    """
    half = width // 2
    periods = 10000 ** (torch.arange(half, device=y.device) // 2 * 2 / half)  # (half,)
    codes = []
    for coordinate in (y, x):
        angles = (coordinate * (2 * math.pi))[..., None] / periods  # (..., half)
        codes.append(torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=-1))
    return torch.cat([code.flatten(-2) for code in codes], dim=-1)  # (..., width)


def grid_positions(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """The codes of a grid's cells, (h * w, channels), row by row; the last cell of an axis is 1."""
    y = torch.arange(1, height + 1, device=device) / (height + 1e-6)
    x = torch.arange(1, width + 1, device=device) / (width + 1e-6)
    y, x = torch.meshgrid(y, x, indexing="ij")
    return sine_positions(y, x, channels).flatten(0, 1)


class Mlp(nn.Module):
    """Linear layers with ReLU between them; ``sizes`` runs from the input to the output."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        pairs = zip(sizes[:-1], sizes[1:], strict=True)
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairs)

    def forward(self, queries: Tensor) -> Tensor:
        """(..., sizes[0]) -> (..., sizes[-1])."""
        for layer in self.layers[:-1]:
            queries = F.relu(layer(queries))
        return self.layers[-1](queries)


class EncoderLayer(nn.Module):
    """A post-norm layer in which the cells of the memory look at each other.

    B: images, P: cells of the memory, E: width.
    """

    def __init__(self, width: int, nheads: int, dim_feedforward: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, nheads, dropout, batch_first=True)
        self.linear1 = nn.Linear(width, dim_feedforward)
        self.linear2 = nn.Linear(dim_feedforward, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, memory: Tensor, positions: Tensor) -> Tensor:
        """(B, P, E) memory, (P, E) positions -> (B, P, E)."""
        keys = memory + positions
        seen = self.self_attn(keys, keys, memory)[0]
        memory = self.norm1(memory + self.dropout(seen))
        hidden = self.dropout(F.relu(self.linear1(memory)))
        return self.norm2(memory + self.dropout(self.linear2(hidden)))


class DecoderLayer(nn.Module):
    """A post-norm layer in which queries look at each other, then at the memory.

    Attention is computed as DETR does, by two matrix products: PyTorch's fused kernel, which it
    takes where no weights are asked for, rounds otherwise. B: images, Q: queries, P: cells of the
    memory, E: width.
    """

    def __init__(self, width: int, nheads: int, dim_feedforward: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, nheads, dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(width, nheads, dropout, batch_first=True)
        self.linear1 = nn.Linear(width, dim_feedforward)
        self.linear2 = nn.Linear(dim_feedforward, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, targets: Tensor, places: Tensor, memory: Tensor, keys: Tensor) -> Tensor:
        """(B, Q, E) targets, (Q, E) places, (B, P, E) memory twice, with positions -> (B, Q, E)."""
        queries = targets + places
        seen = self.self_attn(queries, queries, targets)[0]
        targets = self.norm1(targets + self.dropout(seen))
        seen = self.multihead_attn(targets + places, keys, memory)[0]
        targets = self.norm2(targets + self.dropout(seen))
        hidden = self.dropout(F.relu(self.linear1(targets)))
        return self.norm3(targets + self.dropout(self.linear2(hidden)))


class TransformerEncoder(nn.Module):
    """Encoder layers in a row; none in the published networks."""

    def __init__(self, layers: int, width: int, nheads: int, *, feedforward: int, dropout: float):
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(width, nheads, feedforward, dropout) for _ in range(layers)
        )

    def forward(self, memory: Tensor, positions: Tensor) -> Tensor:
        """(B, P, E) memory, (P, E) positions -> (B, P, E)."""
        for layer in self.layers:
            memory = layer(memory, positions)
        return memory


class TransformerDecoder(nn.Module):
    """Decoder layers in a row, each of whose outputs goes through the same last norm.

    B: images, Q: queries, P: cells of the memory, E: width.
    """

    def __init__(self, layers: int, width: int, nheads: int, *, feedforward: int, dropout: float):
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(width, nheads, feedforward, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, start: Tensor, places: Tensor, memory: Tensor, keys: Tensor) -> list[Tensor]:
        """(Q, E) start and places, (B, P, E) memory and keys -> (B, Q, E) after each layer."""
        targets = start.expand(len(memory), -1, -1)  # (B, Q, E)
        outputs = []
        for layer in self.layers:
            targets = layer(targets, places, memory, keys)
            outputs.append(self.norm(targets))
        return outputs
