"""Memory that a process keeps for what it does next."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # of glibc's malloc.h
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed, for the whole process; False where there is no glibc.

    A model on the CPU frees and takes the same hundreds of megabytes for every photo. Given back
    to the system each time, clearing their pages anew took half of nano's time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, NEVER), (M_ARENA_MAX, 1))
    return all([mallopt(name, value) == 1 for name, value in settings])
