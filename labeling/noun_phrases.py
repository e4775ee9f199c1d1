"""From the nouns of a caption to the concepts it names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from labeling.noun_finding import NOUN_TAGS
from labeling.noun_forms import NounForms
from labeling.noun_taggers import Word
from labeling.word_lists import packaged_words

LONGEST = 4  # words of a compound in the list
_FILLED = ("empty", "full", "filled", "clear", "tall", "several", "half")  # glasses, not spectacles


@dataclass(frozen=True)
class Concept:
    """A noun, or a compound that is one concept."""

    name: str
    listed: bool  # in data/compounds.txt
    plural: bool
    amount: bool  # may be one: "of" or a noun follows


class ConceptFinder:
    """Joins nouns that are one concept, and leaves away what only describes the next noun.

    1. Compounds of ``data/compounds.txt`` are one concept, whatever the tags of their words.
    2. Of other nouns in a row the last is what they name. The one before it joins it ("guitar
       case") unless it is in ``data/modifiers.txt`` ("brick wall"), names no region itself, is a
       plural or unknown to the dictionary: then it is left away, a plural is a concept of its own.
    3. Where the last noun names no region, the one before it is taken ("kitchen area": kitchen).
    """

    def __init__(self, forms: NounForms, stop_nouns: Collection[str], *, lemmatise: bool) -> None:
        self.forms = forms
        self.stop_nouns = stop_nouns
        self.lemmatise = lemmatise
        self.compounds = packaged_words("compounds")
        self.modifiers = packaged_words("modifiers")
        self._starts = frozenset(compound.split()[0] for compound in self.compounds)

    def mark(self, words: Sequence[Word]) -> list[Word]:
        """Tagged words -> the same, those of listed compounds tagged as nouns."""
        marked, place = list(words), 0
        while place < len(words):
            stop = self._compound_end(words, place) or place + 1
            if stop > place + 1:
                for inside in range(place, stop):
                    last = inside == stop - 1 and words[inside].text.lower().endswith("s")
                    marked[inside] = Word(words[inside].text, "NNS" if last else "NN")
            place = stop
        return marked

    def single(self, words: Sequence[Word], nouns: Sequence[bool]) -> list[str]:
        """Tagged words and which of them are nouns -> every noun alone, in order."""
        found = []
        for place in range(len(words)):
            if nouns[place]:
                concept = self._concept(words, place, place + 1)
                found += [] if self._is_stopped(concept) else [concept.name]
        return found

    def join(self, words: Sequence[Word], nouns: Sequence[bool]) -> list[str]:
        """Tagged words and which of them are nouns -> the concepts, in order."""
        found, row, place = [], [], 0
        while place < len(words):
            stop = self._compound_end(words, place)
            if stop or nouns[place]:
                stop = stop or place + 1
                concept = self._concept(words, place, stop)
                if row and (row[-1].plural or concept.listed or row[-1].listed):
                    found += self._settle(row, before=concept)
                    row = []
                row.append(concept)
                place = stop
                continue
            found += self._settle(row)
            row, place = [], place + 1
        return found + self._settle(row)

    def _compound_end(self, words: Sequence[Word], start: int) -> int:
        """After the longest listed compound that starts here; 0 where there is none."""
        word = words[start].text.lower()
        if word not in self._starts and "-" not in word:
            return 0
        for stop in range(min(len(words), start + LONGEST), start, -1):
            first = " ".join(word.text.lower() for word in words[start : stop - 1])
            last = words[stop - 1].text.lower()
            if stop - start == 1 and "-" not in last:
                continue
            forms = (last, self.forms.singular(last), last.removesuffix("es"))
            if any(f"{first} {form}".strip() in self.compounds for form in forms):
                return stop
        return 0

    def _concept(self, words: Sequence[Word], start: int, stop: int) -> Concept:
        last = words[stop - 1]
        name = self._name(words, start, stop)
        listed = stop - start > 1
        plural = last.tag in ("NNS", "NNPS") and self.forms.singular(last.text.lower()) != last.text
        after = words[stop] if stop < len(words) else Word("", "")
        amount = after.text.lower() == "of" or after.tag in NOUN_TAGS
        return Concept(name, listed, plural, amount)

    def _name(self, words: Sequence[Word], start: int, stop: int) -> str:
        lowered = [word.text.lower() for word in words[start:stop]]
        if not self.lemmatise:
            return " ".join(lowered)
        return " ".join([*lowered[:-1], self._singular(words, start, stop)])

    def _singular(self, words: Sequence[Word], start: int, stop: int) -> str:
        last, tag = words[stop - 1].text.lower(), words[stop - 1].tag
        if last == "glasses" and self._are_vessels(words, start, stop):
            return "glass"
        first = " ".join(word.text.lower() for word in words[start : stop - 1])
        if f"{first} {last}".strip() in self.compounds:
            return last
        return self.forms.singular(last, plural=tag != "NN" and tag != "NNP")

    def _are_vessels(self, words: Sequence[Word], start: int, stop: int) -> bool:
        """Whether glasses are for drinking: "wine glasses", "glasses of wine", "two glasses"."""
        of = stop < len(words) and words[stop].text == "of"
        counted = start > 0 and (words[start - 1].tag == "CD" or words[start - 1].text in _FILLED)
        compound = stop - start > 1 and words[start].text not in ("field", "opera")
        return of or counted or compound

    def _settle(self, row: list[Concept], before: Concept | None = None) -> list[str]:
        """Nouns in a row -> the concepts they name; ``before``: the one that follows at once."""
        if row and before and before.listed and not row[-1].listed and not row[-1].plural:
            row = row if self._belongs(row[-1].name) else []
        while row and self._is_stopped(row[-1]):
            row = row[:-1]
        if not row:
            return []
        head = row[-1]
        if len(row) == 1 or head.listed or not self._belongs(row[-2].name):
            return [head.name]
        name = f"{row[-2].name} {head.name}"
        return [] if name in self.stop_nouns else [name]

    def _is_stopped(self, concept: Concept) -> bool:
        """Whether it is a stop noun, or one where it is an amount."""
        stops = self.stop_nouns
        return concept.name in stops or (concept.amount and f"{concept.name} of" in stops)

    def _belongs(self, noun: str) -> bool:
        """Whether a noun before another makes one concept with it."""
        known = noun in self.forms.nouns
        return known and noun not in self.modifiers and noun not in self.stop_nouns
