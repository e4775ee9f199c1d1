"""The most memory that this process has ever held."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def peak_memory() -> float:
    """The most main memory this process ever had, in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage counts the parent's memory as well after a fork and exec
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
