"""The nouns of captions: what the data engine looks for in photos."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path

from labeling.noun_casing import settle_case
from labeling.noun_finding import NounFinder
from labeling.noun_phrases import ConceptFinder
from labeling.noun_taggers import Tagger, Word, nltk_tagger, noun_forms, spacy_tagger
from labeling.word_lists import packaged_words, read_words

PARSERS = ("spacy", "nltk")


@dataclass(frozen=True)
class NounConfig:
    """How captions become nouns.

    Raises:
        ValueError: a value that is not among the possible ones.
    """

    parser: str = "spacy"  # spacy | nltk, which the published nouns were found with
    compounds: bool = True  # "traffic light" is one noun; off: every noun alone
    lemmatise: bool = True  # singular; off: as the caption has it
    stop_nouns: str = "default"  # a file of nouns that name no region; "" leaves none out
    processes: int = 1  # that parse; 0: one for every core
    batch_size: int = 256  # captions that are tagged at once

    def __post_init__(self) -> None:
        if self.parser not in PARSERS:
            raise ValueError(f"parser must be one of {', '.join(PARSERS)}, got {self.parser!r}")
        if self.processes < 0 or self.batch_size < 1:
            raise ValueError(
                "processes must be 0 or more and batch_size 1 or more, got "
                f"{self.processes} and {self.batch_size}"
            )


class NounParser:
    """Finds the common nouns of captions, lower case.

    Raises:
        ValueError: the parser is not installed.
        FileNotFoundError: there is no file of stop nouns.
    """

    def __init__(self, config: NounConfig | None = None) -> None:
        self.config = config = config or NounConfig()
        self.stop_nouns = read_stop_nouns(config.stop_nouns)
        self._tag: Tagger = (
            nltk_tagger() if config.parser == "nltk" else spacy_tagger(config.batch_size)
        )
        forms = noun_forms()
        self._finder = NounFinder(forms)
        self._concepts = ConceptFinder(forms, self.stop_nouns, lemmatise=config.lemmatise)

    def nouns(self, captions: Iterable[str]) -> Iterator[list[str]]:
        """Captions -> the nouns of each, in the order of the caption, none twice."""
        processes = self.config.processes or os.cpu_count() or 1
        if processes > 1:
            return _parse_in_processes(self.config, processes, captions)
        return self._parse(captions)

    def _parse(self, captions: Iterable[str]) -> Iterator[list[str]]:
        for some in _parts(captions, 16 * self.config.batch_size):
            cased = [settle_case(caption) for caption in some]
            tagged = self._tag(one.text for one in cased)
            for words, one in zip(tagged, cased, strict=True):
                yield list(dict.fromkeys(self._find(words, one.names)))

    def _find(self, words: list[Word], names: frozenset[str]) -> list[str]:
        if not self.config.compounds:
            return self._concepts.single(words, self._finder.find(words, names))
        words = self._concepts.mark(words)
        return self._concepts.join(words, self._finder.find(words, names))


def _parts(captions: Iterable[str], size: int) -> Iterator[tuple[str, ...]]:
    captions = iter(captions)
    while part := tuple(islice(captions, size)):
        yield part


def read_stop_nouns(source: str) -> frozenset[str]:
    """``default``, a file with one noun a line (# starts a comment), or "" -> the nouns.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not UTF-8 text.
    """
    if source == "default":
        return packaged_words("stop_nouns")
    if not source:
        return frozenset()
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of stop nouns {path}: check the path")
    return frozenset(read_words(path))


def _parse_in_processes(
    config: NounConfig, processes: int, captions: Iterable[str]
) -> Iterator[list[str]]:
    """Parts of the captions in several processes, a bounded number of them at a time."""
    config = replace(config, processes=1)
    waiting: deque[Future] = deque()
    with ProcessPoolExecutor(processes) as pool:
        for some in _parts(captions, 4 * config.batch_size):
            waiting.append(pool.submit(_parse_part, config, some))
            if len(waiting) > 2 * processes:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _parse_part(config: NounConfig, captions: tuple[str, ...]) -> list[list[str]]:
    return list(_process_parser(config).nouns(captions))


@lru_cache(maxsize=1)
def _process_parser(config: NounConfig) -> NounParser:
    return NounParser(config)
