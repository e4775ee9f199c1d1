"""Memory that a process keeps for what it does next."""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # of glibc's malloc.h
NEVER = 2**31 - 1
# oneDNN remembers how to compute each layer for each size, 1,024 of them, scattered over the heap.
# A network that names crops has some 70, which every batch needs again.
CACHE_VARIABLE, CACHED = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", 128


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed, for the whole process; False where there is no glibc.

    A model on the CPU frees and takes the same hundreds of megabytes for every photo. Given back
    to the system each time, clearing their pages anew took half of nano's time. To be called before
    the first convolution, after which oneDNN would let memory grow with every new size of photo.
    """
    os.environ.setdefault(CACHE_VARIABLE, str(CACHED))
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER), (M_ARENA_MAX, 1))
    return all([mallopt(name, value) == 1 for name, value in settings])
