"""What trainings compute once and keep on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proposal.whole_file import open_whole


def cache_key(parts: Any) -> str:
    """All that a result depends on, as JSON can hold it -> a name for its file."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def load_or_compute(folder: str, parts: Any, kind: str, compute: Callable[[], NDArray]) -> NDArray:
    """The array ``<key of parts>.<kind>.npy`` of a folder, or computed now and kept there.

    With an empty ``folder`` it is computed each time.
    """
    if not folder:
        return compute()
    path = Path(folder) / f"{cache_key(parts)}.{kind}.npy"
    if path.is_file():
        return np.load(path)
    found = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_whole(path) as file:
        np.save(file, found)
    return found
