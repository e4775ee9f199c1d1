"""What each place of a photo is called, beside what the masks over it are called."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from maskclip.bilinear import Axis, place_axis


@dataclass(frozen=True)
class DenseNames:
    """C names' probabilities at the u x v cells of a map that covers the photo."""

    probs: Tensor  # (u * v, C)
    size_hw: tuple[int, int]  # u, v
    weight: float  # in (0, 1]: the places' share in a pixel's scores; the masks have the rest

    def on_grid(self, h: int, w: int) -> GridNames:
        """The same for the pixels of another grid over the photo."""
        device, (u, v) = self.probs.device, self.size_hw
        weighted = self.weight * self.probs
        return GridNames(weighted, v, place_axis(u, h, device), place_axis(v, w, device))


@dataclass(frozen=True)
class GridNames:
    """C names' scores at the pixels of a grid, bilinear between the cells of a map."""

    scores: Tensor  # (u * v, C)
    cells_per_row: int  # v
    rows: Axis  # of the grid, on the map
    columns: Axis

    def at(self, places: Tensor, names: slice = slice(None)) -> Tensor:
        """(n,) int64 into the flat grid -> (n, C), the scores of those ``names``."""
        width = len(self.columns.low)
        y, x = places // width, places % width
        down, right = self.rows.share[y], self.columns.share[x]
        above, below = (each[y] * self.cells_per_row for each in (self.rows.low, self.rows.high))
        before, after = self.columns.low[x], self.columns.high[x]
        cells = [row + column for row in (above, below) for column in (before, after)]
        shares = [v * u for v in (1 - down, down) for u in (1 - right, right)]
        return F.embedding_bag(
            torch.stack(cells, dim=1),
            self.scores[:, names],
            mode="sum",
            per_sample_weights=torch.stack(shares, dim=1),
        )

    def maps(self) -> Tensor:
        """(C, h, w): every name's score everywhere."""
        h, w = len(self.rows.low), len(self.columns.low)
        places = torch.arange(h * w, device=self.scores.device)
        return self.at(places).mT.reshape(-1, h, w)
