"""A name for every pixel from named, overlapping, soft masks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from maskclip.bilinear import Axis, interpolate, place_axis
from maskclip.dense_names import DenseNames, GridNames
from maskclip.segmentor_config import SegmentorConfig
from proposal.proposals import Proposals

SMALLEST = 1e-4  # share of a photo below which a mask does not count for more
NOTHING = -1  # label of a pixel of which no mask says anything

_PIXELS_PER_BLOCK = 4096  # of the masks' grid scored at once,
_NAMES_PER_BLOCK = 256  # for so many names: 4 MiB, which stays in the processor's cache
_CORNER_VALUES = 16_000_000  # scores and masks at cells' corners held at once: 64 MiB
_PIXEL_VALUES = 4_000_000  # scores gathered at once for pixels between names: 16 MiB


@dataclass(frozen=True)
class _Between:
    """Output pixels in cells whose corners have different winners. n: pixels, m: cells."""

    place: Tensor  # (n,) int64 in the flat output
    cell: Tensor  # (n,) int64, the cell each lies in
    shares: Tensor  # (n, 4) weights of its cell's corners
    corners: Tensor  # (m, 4) int64, in the flat grid of the masks


def assemble(
    class_probs: Tensor,
    mask_probs: Tensor,
    size_hw: tuple[int, int],
    dense: DenseNames | None = None,
) -> tuple[Tensor, Tensor]:
    """(Q, C), (Q, h, w) -> labels (H, W) int64, confidence (H, W) in [0, 1].

    A name's score is the sum over proposals of its probability times the soft mask, bilinear from
    h x w to H x W; the largest wins. Confidence is that score over the sum of the masks. A pixel of
    which no mask says anything (all scores zero, no proposals) gets ``NOTHING``.

    With ``dense`` names of weight w the score is, on the masks' grid, 1 - w times the mean of the
    names of the masks there, weighted by these, plus w times the dense name's probability, and is
    the confidence. Without proposals there is nothing either way.

    The C x H x W scores never exist. At a pixel whose four neighbours on the masks' grid have the
    same winner, this one wins (scores in between are averages of theirs). At the others only names
    that can win there are compared.
    """
    _check(class_probs, mask_probs)
    (q, h, w), count = mask_probs.shape, class_probs.shape[1]
    if q == 0 or count == 0:
        empty = torch.full(size_hw, NOTHING, device=mask_probs.device)
        return empty, torch.zeros(size_hw, device=mask_probs.device)
    masks = mask_probs.float().flatten(1)  # (Q, h * w)
    class_probs, total = class_probs.to(masks), masks.sum(0)
    places = None
    if dense is not None:
        masks = masks * ((1 - dense.weight) / total.clamp(min=torch.finfo(total.dtype).tiny))
        places, total = dense.on_grid(h, w), torch.ones_like(total)
    grid_labels, grid_best = (each.view(h, w) for each in _best_names(class_probs, masks, places))
    rows, columns = place_axis(h, size_hw[0], masks.device), place_axis(w, size_hw[1], masks.device)
    labels = grid_labels[rows.low][:, columns.low]  # (H, W)
    best = interpolate(grid_best, rows, columns)
    mixed = _mixed_cells(grid_labels)  # (h, w)
    for stripe in _stripes(mixed, count + q):
        between = _between(mixed, stripe, rows, columns)
        names, scores = _contenders(class_probs, masks, between.corners.flatten(), places)
        winner, score = _settle(names, scores, between)
        labels.view(-1)[between.place], best.view(-1)[between.place] = winner, score
    total = interpolate(total.view(h, w), rows, columns)
    labels[best <= 0] = NOTHING
    return labels, (best / total.clamp(min=torch.finfo(total.dtype).tiny)).clamp(0, 1)


def weigh_masks(proposals: Proposals, class_probs: Tensor, config: SegmentorConfig) -> Tensor:
    """Q proposals, (Q, C) what each shows -> (Q, h, w) soft masks, as they count at their pixels.

    Times objectness ** ``objectness_power``, times the likeliest name's probability **
    ``certainty_power``, over the mask's share of the photo ** ``size_power``. With powers of 0 all
    masks are alike (SPEC 2.6).
    """
    masks = proposals.mask_probs
    factors = []
    if config.objectness_power:
        factors.append(proposals.scores.to(masks).clamp(min=0) ** config.objectness_power)
    if config.certainty_power and class_probs.shape[1]:
        factors.append(class_probs.to(masks).amax(dim=1) ** config.certainty_power)
    if config.size_power:
        shares = masks.flatten(1).mean(dim=1).clamp(min=SMALLEST)  # (Q,)
        factors.append(shares**-config.size_power)
    if not factors:
        return masks
    return masks * math.prod(factors)[:, None, None]


def score_maps(
    class_probs: Tensor,
    mask_probs: Tensor,
    size_hw: tuple[int, int],
    dense: DenseNames | None = None,
) -> Tensor:
    """(Q, C), (Q, h, w) -> (C, H, W): every name's score everywhere, which takes much memory.

    As ``assemble`` has it, ``dense`` names (of more than C names the first) included.
    """
    _check(class_probs, mask_probs)
    masks = mask_probs.float()
    if dense is not None and len(masks):
        total = masks.sum(0).clamp(min=torch.finfo(masks.dtype).tiny)
        masks = masks * ((1 - dense.weight) / total)
    scores = torch.einsum("qc,qhw->chw", class_probs.to(masks), masks)
    if dense is not None and len(masks):
        scores = scores + dense.on_grid(*masks.shape[1:]).maps()[: len(scores)]
    if not scores.numel():
        return scores.new_zeros(len(scores), *size_hw)
    return F.interpolate(scores[None], size_hw, mode="bilinear", align_corners=False)[0]


def _check(class_probs: Tensor, mask_probs: Tensor) -> None:
    if mask_probs.ndim != 3 or class_probs.ndim != 2 or len(class_probs) != len(mask_probs):
        raise ValueError(
            "class_probs must be (Q, C) and mask_probs (Q, h, w) of the same Q, got "
            f"{tuple(class_probs.shape)} and {tuple(mask_probs.shape)}"
        )


def _best_names(
    class_probs: Tensor, masks: Tensor, places: GridNames | None
) -> tuple[Tensor, Tensor]:
    """(Q, C), (Q, p) -> the best name (p,) int64 of each of p pixels, its score (p,)."""
    labels = masks.new_empty(masks.shape[1], dtype=torch.int64)
    best = masks.new_empty(masks.shape[1])
    numbers = torch.arange(masks.shape[1], device=masks.device)
    for block in numbers.split(_PIXELS_PER_BLOCK):
        pixels = masks[:, block[0] : block[-1] + 1].mT  # (p, Q)
        top, winner = _scores(class_probs, pixels, block, places, 0).max(dim=1)
        for first in range(_NAMES_PER_BLOCK, class_probs.shape[1], _NAMES_PER_BLOCK):
            rival, place = _scores(class_probs, pixels, block, places, first).max(dim=1)
            winner = torch.where(rival > top, place + first, winner)
            top = torch.maximum(top, rival)
        labels[block], best[block] = winner, top
    return labels, best


def _scores(
    class_probs: Tensor, pixels: Tensor, numbers: Tensor, places: GridNames | None, first: int
) -> Tensor:
    """(Q, C), (p, Q), (p,) which pixels these are -> (p, C') scores of a block of names."""
    names = slice(first, first + _NAMES_PER_BLOCK)
    scores = pixels @ class_probs[:, names]
    return scores if places is None else scores + places.at(numbers, names)


def _mixed_cells(labels: Tensor) -> Tensor:
    """(h, w) -> (h, w) bool: does the square from this pixel to the next ones have two winners?"""
    right = torch.cat([labels[:, 1:], labels[:, -1:]], dim=1)
    pair_differs = right != labels
    below = torch.cat([labels[1:], labels[-1:]])
    return pair_differs | (below != labels) | torch.cat([pair_differs[1:], pair_differs[-1:]])


def _stripes(mixed: Tensor, cost: int) -> Iterator[tuple[int, int]]:
    """(h, w) bool, values per corner -> ranges of rows with a bounded number of such values."""
    first, load = 0, 0
    for row, values in enumerate((mixed.sum(dim=1) * 4 * cost).tolist()):
        if load and load + values > _CORNER_VALUES:
            yield first, row
            first, load = row, 0
        load += values
    if load:
        yield first, len(mixed)


def _between(mixed: Tensor, stripe: tuple[int, int], rows: Axis, columns: Axis) -> _Between:
    """The pixels in mixed cells of a stripe of rows of the masks' grid."""
    (first, last), (h, w) = stripe, mixed.shape
    cell_y, cell_x = mixed[first:last].nonzero(as_tuple=True)  # (m,)
    cell_y = cell_y + first
    next_y, next_x = (cell_y + 1).clamp(max=h - 1), (cell_x + 1).clamp(max=w - 1)
    corners = [y * w + x for y in (cell_y, next_y) for x in (cell_x, next_x)]
    number = (mixed[first:last].flatten().cumsum(0) - 1).view(-1, w)  # of a cell in corners
    own = ((rows.low >= first) & (rows.low < last)).nonzero()[:, 0]  # output rows
    y, x = mixed[rows.low[own]][:, columns.low].nonzero(as_tuple=True)  # (n,)
    y = own[y]
    down, right = rows.share[y], columns.share[x]
    shares = [v * u for v in (1 - down, down) for u in (1 - right, right)]
    return _Between(
        place=y * len(columns.low) + x,
        cell=number[rows.low[y] - first, columns.low[x]],
        shares=torch.stack(shares, dim=1),
        corners=torch.stack(corners, dim=1),
    )


def _contenders(
    class_probs: Tensor, masks: Tensor, corners: Tensor, places: GridNames | None
) -> tuple[Tensor, Tensor]:
    """(Q, C), (Q, p), (m * 4,) pixels -> names (m, k) int64 that can win in m cells, their scores
    (m, 4, k).

    A name whose best corner is below some other name's worst corner can win nowhere in the cell.
    """
    scores = masks[:, corners].mT @ class_probs
    if places is not None:
        scores = scores + places.at(corners)
    scores = scores.view(-1, 4, class_probs.shape[1])  # (m, 4, C)
    top, bar = scores.amax(dim=1), scores.amin(dim=1).amax(dim=1, keepdim=True)
    count = int((top >= bar).sum(dim=1).max())
    names = top.topk(count, dim=1).indices.sort(dim=1).values  # (m, k), the first wins a tie
    return names, scores.gather(2, names[:, None].expand(-1, 4, -1))


def _settle(names: Tensor, scores: Tensor, between: _Between) -> tuple[Tensor, Tensor]:
    """names (m, k), scores (m, 4, k) of the cells -> the winner (n,) at each pixel, its score."""
    winners, bests = [], []
    step = max(1, _PIXEL_VALUES // scores[0].numel())
    for cell, shares in zip(between.cell.split(step), between.shares.split(step), strict=True):
        best, place = torch.einsum("nik,ni->nk", scores[cell], shares).max(dim=1)
        winners.append(names[cell, place])
        bests.append(best)
    return torch.cat(winners), torch.cat(bests)
