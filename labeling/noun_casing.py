"""Captions as taggers like them: without capitals that mean nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass

SHOUTED = 0.7  # share of capital letters from which a caption is all capitals
TITLED = 0.6  # share of capitalised words from which a caption is written as a title
_SPACED = re.compile(r"(?<=[a-z]{2}[.,;!?])(?=[A-Za-z]{2})|(?<=[^\s/])(?=/)|(?<=/)(?=[^\s/])")
_MARKS = ".,;:!?\"'()"
_QUOTES = str.maketrans({"‘": "'", "’": "'", "`": "'", "“": '"', "”": '"', "–": " - ", "—": " - "})


@dataclass(frozen=True)
class Cased:
    """A caption to be tagged."""

    text: str  # names keep their capitals, all other words have none
    names: frozenset[str]  # the words that do, lower case: capitalised inside a sentence


def settle_case(caption: str) -> Cased:
    """A caption as it was written -> without the capitals of sentences, titles and shouting."""
    words = _SPACED.sub(" ", caption.translate(_QUOTES)).split()
    if _is_plain(words):
        return Cased(" ".join(words).lower(), frozenset())
    bare = [word.strip(_MARKS) for word in words]
    shouted = [letters.isupper() and len(letters) > 1 for letters in bare]
    settled, names, starts = [], set(), True
    for place, (word, letters) in enumerate(zip(words, bare, strict=True)):
        # "a TV" is a thing, "a BAE SYSTEMS flag" bears a name
        alone = shouted[place] and not any(shouted[max(0, place - 1) : place + 2 : 2])
        if starts and not shouted[place] or not letters[:1].isupper() or alone:
            settled.append(word.lower())
        else:
            settled.append(word)
        if not starts and letters[:1].isupper():
            names.add(letters.lower().removesuffix("'s"))
        starts = word.endswith((".", "!", "?", ":", '"')) and len(letters) > 2
    return Cased(" ".join(settled), frozenset(names))


def _is_plain(words: list[str]) -> bool:
    """Whether capitals tell nothing: there are none inside, or nearly nothing else."""
    letters = [letter for word in words for letter in word if letter.isalpha()]
    if not letters or sum(map(str.isupper, letters)) >= SHOUTED * len(letters):
        return True
    initials = [word[0] for word in words[1:] if word[0].isalpha()]
    return len(initials) >= 4 and sum(map(str.isupper, initials)) >= TITLED * len(initials)
