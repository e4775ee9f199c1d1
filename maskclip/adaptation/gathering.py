"""Tensors of all workers, side by side, with the gradient of a loss over all of them."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.utils import comm
from torch import Tensor, distributed


class _Gathered(torch.autograd.Function):
    """Every worker computes the same loss of the same rows, and DDP averages their gradients.

    A worker therefore keeps the gradient of its own rows, times the number of workers.
    """

    @staticmethod
    def forward(_: Any, own: Tensor) -> Tensor:
        return _gather(own)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        world = comm.get_world_size()
        return gradient.chunk(world)[comm.get_rank()] * world


def gather_rows(own: Tensor) -> Tensor:
    """(n, ...) of each worker, n alike -> (workers * n, ...), in the order of ranks."""
    if comm.get_world_size() == 1:
        return own
    return _Gathered.apply(own) if own.requires_grad else _gather(own)


def _gather(own: Tensor) -> Tensor:
    own = own.contiguous()
    rows = [torch.empty_like(own) for _ in range(comm.get_world_size())]
    distributed.all_gather(rows, own)
    return torch.cat(rows)
