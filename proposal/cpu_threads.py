"""A fixed number of CPU threads for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass
class _Usual:
    """How many threads there are while nobody fixes them, and how many blocks fix them now."""

    count: int = 0
    blocks: int = 0


_usual = _Usual()
_changing = threading.Lock()


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Let PyTorch compute with ``count`` threads inside the block; 0 changes nothing.

    Convolutions and matrix products are split by the number of threads, and round as they are
    split. Afterwards there are as many as before the first of the blocks that run at once.
    """
    if not count:
        yield
        return
    with _changing:
        if not _usual.blocks:
            _usual.count = torch.get_num_threads()
        _usual.blocks += 1
    torch.set_num_threads(count)
    try:
        yield
    finally:
        with _changing:
            _usual.blocks -= 1
            torch.set_num_threads(_usual.count)
