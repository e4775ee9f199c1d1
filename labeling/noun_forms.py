"""Singular forms of nouns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from labeling.word_lists import packaged_words

_PERSONS = {"people": "person", "persons": "person", "folks": "person", "peoples": "person"}
_BY_SOUND = ("ches", "shes", "sses", "xes", "zes", "oes")


class NounForms:
    """Singular and plural by WordNet's nouns, as spaCy's English model brings them along.

    Plurals without a singular (``labeling/data/plural_nouns.txt``) stay as they are.
    """

    def __init__(
        self,
        known: Mapping[str, Collection[str]],
        irregular: Mapping[str, Sequence[str]],
        rules: Sequence[tuple[str, str]],
    ) -> None:
        """Known words by part of speech, irregular plurals, endings with what replaces them."""
        self.nouns = frozenset(known["noun"])
        self.adjectives = frozenset(known["adj"])
        self.irregular = irregular
        self.rules = rules
        self.plural_only = packaged_words("plural_nouns")
        self._found: dict[tuple[str, bool], str] = {}  # every word of the captions once

    def singular(self, word: str, *, plural: bool = True) -> str:
        """A noun in lower case -> its singular; ``plural``: the tagger takes it for a plural."""
        if (word, plural) not in self._found:
            self._found[word, plural] = self._singular(word, plural)
        return self._found[word, plural]

    def _singular(self, word: str, plural: bool) -> str:
        if word in self.plural_only or (not plural and word in self.nouns):
            return word
        if word in _PERSONS:
            return _PERSONS[word]
        if word in self.irregular:
            return self.irregular[word][0]
        for ending, instead in self.rules:
            if word.endswith(ending) and word.removesuffix(ending) + instead in self.nouns:
                return word.removesuffix(ending) + instead
        if word in self.nouns or not plural:
            return word
        return _strip_plural(word)


def _strip_plural(word: str) -> str:
    """By spelling alone: no dictionary knows the word."""
    if not word.endswith("s") or word.endswith(("ss", "us", "is")) or len(word) < 4:
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-2] if word.endswith(_BY_SOUND) else word[:-1]
