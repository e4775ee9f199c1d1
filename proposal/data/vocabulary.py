"""The names that the text classifier is trained with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def read_names(path: Path) -> tuple[str, ...]:
    """A file of one name a line, in label order; empty lines are left out.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it holds no name, or one twice.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no list of names {path}")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    names = tuple(line for line in lines if line)
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if not names or twice:
        problem = f"{twice[0]!r} twice" if twice else "none"
        raise ValueError(f"{path} must hold one name a line, each once, got {problem}")
    return names


def readable(name: str) -> str:
    """A data set's name as one would say it: ``aerosol_can`` -> ``aerosol can``."""
    return name.replace("_", " ").strip()


def join_names(lists: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """All names of several data sets, each once, in their order."""
    return tuple(dict.fromkeys(name for names in lists for name in names))


def labels_of(names: Sequence[str], vocabulary: Sequence[str], where: str) -> np.ndarray:
    """A data set's C names -> (C,) int64, each one's index in the training's vocabulary.

    Raises:
        ValueError: a name is not in it.
    """
    index = {name: place for place, name in enumerate(vocabulary)}
    strange = [name for name in names if name not in index]
    if strange:
        raise ValueError(
            f"data.names must hold all names of {where}, {len(strange)} are missing, such as "
            f"{', '.join(strange[:3])}"
        )
    return np.array([index[name] for name in names], dtype=np.int64)
