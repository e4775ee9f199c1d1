"""Word lists of the data folder: one entry a line, # starts a comment."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"


def read_words(path: Path) -> list[str]:
    """The entries of a word list, lower case, in the order of the file.

    Raises:
        ValueError: the file is not UTF-8 text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be UTF-8 text, one noun a line: convert it") from error
    entries = (" ".join(line.partition("#")[0].lower().split()) for line in lines)
    return [entry for entry in entries if entry]


@lru_cache
def packaged_words(name: str) -> frozenset[str]:
    """The entries of ``labeling/data/<name>.txt``."""
    return frozenset(read_words(DATA / f"{name}.txt"))
