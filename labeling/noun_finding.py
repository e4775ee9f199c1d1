"""Which of a caption's tagged words are nouns."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from labeling.noun_forms import NounForms
from labeling.noun_taggers import Word
from labeling.word_lists import packaged_words

NOUN_TAGS = ("NN", "NNS", "NNP", "NNPS")
VERB_TAGS = ("VB", "VBP", "VBZ", "VBD", "VBN")
_BEFORE_NOUN = ("DT", "JJ", "JJR", "JJS", "PRP$", "POS", "CD", "PDT")  # a noun phrase began here
_AFTER_VERB = ("IN", "DT", "RB", "RP", "TO", "PRP", "PRP$", "VBG", "JJ")
_WORD = re.compile(r"[^\W\d_][^\W\d_'.&-]*(?:['.&-][^\W\d_]+)*\.?")
_COLOURS = frozenset(
    (
        *("white", "black", "red", "blue", "green", "yellow", "purple", "pink", "brown", "grey"),
        *("gray", "tan", "beige", "turquoise", "violet", "teal", "maroon", "navy", "burgundy"),
        *("aqua", "crimson", "gold", "silver"),
    )
)
_ALSO_COLOURS = frozenset(("orange",))
_ALSO_PERSONS = frozenset(("male", "female", "individual", "adult"))  # and adjectives


class NounFinder:
    """Corrects what a small tagger gets wrong in captions."""

    def __init__(self, forms: NounForms) -> None:
        self.forms = forms
        self.never = packaged_words("not_nouns")
        self.proper = packaged_words("proper_nouns")
        self.common = packaged_words("common_nouns")
        self.verbs = packaged_words("verbs")
        ing = packaged_words("ing_nouns")
        self.sure_ing = frozenset(word[:-1] for word in ing if word.endswith("!"))
        self.ing = self.sure_ing | {word for word in ing if not word.endswith("!")}

    def find(self, words: Sequence[Word], names: Collection[str]) -> list[bool]:
        """Tagged words, those that have a capital inside a sentence -> whether each is a noun."""
        lowered = [word.text.lower() for word in words]
        return [self._is_noun(place, words, lowered, names) for place in range(len(words))]

    def _is_noun(
        self, place: int, words: Sequence[Word], lowered: Sequence[str], names: Collection[str]
    ) -> bool:
        word, tag = lowered[place], words[place].tag
        singular = self.forms.singular(word)
        if not _WORD.fullmatch(word) or len(word.rstrip(".")) < 2 or {word, singular} & self.never:
            return False
        if {word, singular} & self.proper:
            return False
        before = words[place - 1].tag if place else ""
        after = words[place + 1].tag if place + 1 < len(words) else ""
        if word.endswith("ing") and len(word) > 4:
            return self._is_thing(word, tag, before)
        if word in _COLOURS:
            return False
        if word in _ALSO_COLOURS and (after in NOUN_TAGS or lowered[place - 1 : place] == ["in"]):
            return False
        if word in names and tag in ("NNP", "NNPS"):
            return self._is_common(place, words, lowered, names)
        if tag in NOUN_TAGS:
            return self._is_tagged_noun(singular, tag, before, after)
        return self._is_overlooked(word, singular, tag, before, after)

    def _is_thing(self, word: str, tag: str, before: str) -> bool:
        """A word in -ing."""
        if word in self.sure_ing:
            return True
        return word in self.ing and (tag in NOUN_TAGS or before in _BEFORE_NOUN)

    def _is_common(
        self, place: int, words: Sequence[Word], lowered: Sequence[str], names: Collection[str]
    ) -> bool:
        """A capitalised word that is tagged as a name."""
        around = {*lowered[max(0, place - 1) : place], *lowered[place + 1 : place + 2]}
        if around & set(names) or self.forms.singular(lowered[place]) not in self.common:
            return False
        return place + 1 == len(words) or words[place + 1].tag not in NOUN_TAGS

    def _is_tagged_noun(self, singular: str, tag: str, before: str, after: str) -> bool:
        last = singular.rpartition("-")[2]  # "t-shirt" is a shirt, "well-lit" nothing
        if singular not in self.forms.nouns and last in self.forms.adjectives:
            return False
        if tag in ("NNP", "NNPS"):
            return not (singular in self.forms.adjectives and after in NOUN_TAGS)
        if singular in self.verbs and before in NOUN_TAGS:
            return after not in _AFTER_VERB
        return True

    def _is_overlooked(self, word: str, singular: str, tag: str, before: str, after: str) -> bool:
        """A noun that is tagged as something else."""
        if singular not in self.forms.nouns or after in NOUN_TAGS:
            return False
        phrase = before in _BEFORE_NOUN
        if word in _ALSO_PERSONS:
            return phrase and after != "JJ"
        sure = singular not in self.verbs and singular not in self.forms.adjectives
        if tag in ("VB", "VBP") and before in ("NN", "CC"):
            return sure  # a verb would have an s
        if tag in VERB_TAGS:
            return sure and (phrase or before == "IN") and not word.endswith("ed")
        if tag in ("JJ", "RB", "UH", "FW", "NFP", "JJR", "RBR"):
            return sure and (phrase or before in (*NOUN_TAGS, "IN", "CC", ",", "VBG", ""))
        return tag == "MD" and phrase
