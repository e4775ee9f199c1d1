"""The nouns that a model is trained without, to measure what it makes of names it never met."""

from __future__ import annotations

from pathlib import Path


def read_left_out(path: str | Path) -> frozenset[str]:
    """A file of one noun a line -> the nouns, casefolded.

    Empty lines are left out, and so are lines that begin with #, which say what follows.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no noun.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of nouns {path}: check the path")
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    nouns = frozenset(fold_noun(line) for line in lines if line and not line.startswith("#"))
    if not nouns:
        raise ValueError(f"{path} must hold one noun a line, got none")
    return nouns


def fold_noun(noun: str) -> str:
    """The form in which nouns are compared: casefolded, single spaces."""
    return " ".join(noun.casefold().split())
