"""What the user wants to find: names, their synonyms, the ways to write them down."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Vocabulary:
    """C names, each with one or more of the K synonyms. C: names, K: synonyms, C <= K."""

    names: tuple[str, ...]  # C, as the user wrote them: "sofa|couch"
    synonyms: tuple[str, ...]  # K, what the text tower reads: "sofa", "couch"
    owner: tuple[int, ...]  # K, the name each synonym belongs to: 0, 0

    def __len__(self) -> int:
        return len(self.names)


def parse_names(names: Sequence[str]) -> Vocabulary:
    """Names in the user's order, equal ones merged into the first of them.

    ``|`` joins the synonyms of one name. Names are equal when their synonyms are, whatever their
    order, upper or lower case, or the width of their spaces.

    Raises:
        ValueError: no names, a blank name or synonym (the message says which), not text.
    """
    if isinstance(names, str):
        raise ValueError(f"names must be a list of strings, got the string {names!r}: write [...]")
    kept: dict[frozenset[str], tuple[str, tuple[str, ...]]] = {}
    for position, name in enumerate(names, start=1):
        synonyms = _split_synonyms(name, position)
        kept.setdefault(frozenset(synonyms), (name.strip(), tuple(synonyms.values())))
    if not kept:
        raise ValueError("the list of names is empty: give at least one name to look for")
    return Vocabulary(
        names=tuple(name for name, _ in kept.values()),
        synonyms=tuple(synonym for _, synonyms in kept.values() for synonym in synonyms),
        owner=tuple(c for c, (_, synonyms) in enumerate(kept.values()) for _ in synonyms),
    )


def split_classes(text: str) -> list[str]:
    r"""Names separated by commas, ``\,`` being a comma inside a name: ``"a,b\,c|d"``."""
    if not text:
        return []
    return [part.replace("\\,", ",").strip() for part in re.split(r"(?<!\\),", text)]


def read_class_file(path: str | Path) -> list[str]:
    """The names of a UTF-8 text file, one a line, commas included.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not UTF-8 text, a blank line between names, or no names at all.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a text file with one name a line, found none at {path}")
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}): save it as UTF-8") from error
    if lines == [""]:
        raise ValueError(f"{path} has no names: write one name a line")
    for number, line in enumerate(lines, start=1):
        if _is_blank(line):
            raise ValueError(f"line {number} of {path} is blank: delete it or write a name")
    return [line.strip() for line in lines]


def _split_synonyms(name: str, position: int) -> dict[str, str]:
    """One name -> how each of its synonyms compares, and how it is written."""
    if not isinstance(name, str):
        raise ValueError(f"name {position} must be a string, got {type(name).__name__}: {name!r}")
    if _is_blank(name):
        raise ValueError(f"name {position} is blank ({name!r}): delete it or write a name")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"name {position} ({name!r}) is not text: write it in UTF-8") from error
    synonyms: dict[str, str] = {}
    for part in name.split("|"):
        if _is_blank(part):
            raise ValueError(
                f"name {position} ({name!r}) has a blank synonym: write something on both sides"
                " of each |"
            )
        synonym = unicodedata.normalize("NFC", " ".join(part.split()))
        synonyms.setdefault(synonym.casefold(), synonym)
    return synonyms


def _is_blank(text: str) -> bool:
    """Nothing to see: only spaces (Z*) and control, format or undecodable characters (C*)."""
    return all(unicodedata.category(character)[0] in "ZC" for character in text)
