"""Batches of a stream whose example number i is always the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from proposal.training_run import LoopConfig


def load_shares(
    stream: Dataset,
    loop: LoopConfig,
    start: int,
    *,
    workers: int,
    collate: Callable[[Sequence[Any]], Any],
) -> DataLoader:
    """The batches from iteration ``start`` on, this process's share of each.

    Together the processes see what one alone sees, and a resumed training what one without a stop
    sees, whatever the number of ``workers``.
    """
    world, rank = comm.get_world_size(), comm.get_rank()
    return DataLoader(
        stream,
        batch_size=loop.batch_of_process(),
        sampler=range(start * loop.batch_size + rank, len(stream), world),
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else its start moves torch's own
    )
