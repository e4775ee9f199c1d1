"""A start for the queries at which each looks at its own place of the image."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from proposal.transformer_decoder import TransformerDecoder, sine_positions

RADII = (0.08, 0.16, 0.3, 0.6)  # of a head's view, as a share of the image; then again
WAVES = 6  # sine and cosine pairs per axis by which a head tells places apart


def grid_points(queries: int) -> Tensor:
    """(Q, 2) y and x in (0, 1): rows of a grid that is as square as the number allows."""
    rows = max(1, math.isqrt(queries))
    counts = [queries // rows + (row < queries % rows) for row in range(rows)]
    points = [
        ((row + 0.5) / rows, (column + 0.5) / count)
        for row, count in enumerate(counts)
        for column in range(count)
    ]
    return torch.tensor(points).reshape(-1, 2)


def pyramid_points(queries: int) -> tuple[Tensor, Tensor]:
    """(Q, 2) points of grids from fine to coarse, (Q,) radii: half of the grid's spacing."""
    points, radii, left = [], [], queries
    for share in (0.6, 0.25, 0.11, 1.0):
        count = min(left, round(share * queries))
        points.append(grid_points(count))
        radii.append(torch.full((count,), 0.5 / max(1, math.isqrt(count))))
        left -= count
    return torch.cat(points), torch.cat(radii)


@torch.no_grad()
def spread_queries(
    places: Tensor, points: Tensor, decoder: TransformerDecoder, input_proj: nn.Module
) -> None:
    """Set (Q, E) places to the codes of (Q, 2) points; half of the heads then look there.

    The attention of such a head is about a Gaussian around its query's point: the products of
    two places' codes sum to sum_i cos(w_i d), which falls as d^2 / 2 * sum_i w_i^2. The channels
    it reads hold nothing but places at the start: neither what a query has read nor the image.
    """
    width, heads = places.shape[1], decoder.layers[0].multihead_attn.num_heads
    places.copy_(sine_positions(points[:, 0], points[:, 1], width))
    size = width // heads  # channels of a head
    channels = place_channels(width, size)
    slopes = 2 * math.pi / 10000 ** (torch.arange(len(channels) // 4) * 4 / width)
    steepness = slopes.square().sum().item()
    if isinstance(input_proj, nn.Conv2d):
        input_proj.weight[channels] = 0
        input_proj.bias[channels] = 0
    # All queries start as zeros, whose norm would enlarge the first layer's gradients 300 times.
    nn.init.normal_(decoder.layers[0].self_attn.out_proj.bias)
    for layer in decoder.layers:
        layer.norm1.weight[channels] = 0
        queries, keys, _ = layer.multihead_attn.in_proj_weight.chunk(3)  # (E, E) each
        for head in range(heads // 2):
            gain = math.sqrt(math.sqrt(size) / steepness) / RADII[head % len(RADII)]
            select = torch.zeros(size, width)
            select[torch.arange(len(channels)), channels] = gain
            queries[head * size : (head + 1) * size] = select
            keys[head * size : (head + 1) * size] = select


def place_channels(width: int, size: int) -> Tensor:
    """The channels of a code that vary fastest, y's then x's; at most as many as a head has."""
    fastest = torch.arange(2 * min(WAVES, size // 4, width // 4))
    return torch.cat([fastest, width // 2 + fastest])
