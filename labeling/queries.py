"""Whether masks answer to words that are in no list of names, such as *four-legged animal*.

The table ``data/queries.json`` holds the queries. Each is offered together with a fixed list of
other names (*distractors*), of which those are left out that are themselves right for the query;
a mask gets the query where it scores above them all. Measured on ground-truth masks, in percent:

- *right*: the share of the masks that are meant by the query which get it;
- *wrong*: the share of all other masks that get it, though they are something else. Masks of the
  names under ``either`` count for neither: whether a toilet is *something to sit on* is a matter
  of taste;
- *AP*: average precision of the masks in the order of how far the query's score is above the best
  other one, whatever its sign. A model that gives queries away more freely gains in *right* and
  loses in *wrong*; this one number does not depend on it. By chance it is *AP_chance*.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from labeling.mask_scores import MaskScores
from labeling.word_lists import DATA

MEASURES = ("right", "wrong", "chance", "AP", "AP_chance")


@dataclass(frozen=True)
class Query:
    """Words, and the names of the data set whose masks they mean."""

    text: str  # | joins synonyms
    right: tuple[str, ...]
    either: tuple[str, ...] = ()  # names whose masks are not counted


@dataclass(frozen=True)
class QueryTable:
    """The queries and what each is offered with."""

    distractors: tuple[str, ...]
    queries: tuple[Query, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """All that masks are compared with."""
        return self.distractors + tuple(query.text for query in self.queries)

    def others(self, query: Query) -> tuple[str, ...]:
        """The distractors that the query does not mean."""
        return tuple(name for name in self.distractors if name not in query.right + query.either)


@lru_cache
def read_queries(path: Path = DATA / "queries.json") -> QueryTable:
    """The table of queries.

    Raises:
        ValueError: a query has no names, or is a distractor, too.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    queries = tuple(
        Query(row["query"], tuple(row["right"]), tuple(row.get("either", ())))
        for row in content["queries"]
    )
    table = QueryTable(tuple(content["distractors"]), queries)
    for query in queries:
        if not query.right or query.text in table.distractors:
            raise ValueError(
                f"the query {query.text!r} of {path} must have right names and be no distractor"
            )
    return table


def measure_queries(scores: MaskScores, table: QueryTable) -> dict[str, Any]:
    """The shares of each query that has masks, and their means."""
    found = {query.text: _measure_query(scores, query, table) for query in table.queries}
    found = {text: shares for text, shares in found.items() if shares["right"] is not None}
    means = {
        measure: float(np.mean([shares[measure] for shares in found.values()])) if found else None
        for measure in MEASURES
    }
    return {"model": means | {"queries": len(found), "per_query": found}}


def _measure_query(scores: MaskScores, query: Query, table: QueryTable) -> dict[str, Any]:
    others = table.others(query)
    logits = scores.columns((query.text, *others))  # (N, 1 + C)
    above = logits[:, 0] - logits[:, 1:].max(axis=1, initial=-np.inf)  # (N,)
    gets = logits.argmax(axis=1) == 0
    true = np.array(scores.true, dtype=object)
    right, neither = np.isin(true, query.right), np.isin(true, query.either)
    wrong = ~right & ~neither
    return {
        "right": _share(gets[right]),
        "wrong": _share(gets[wrong]) or 0.0,
        "chance": 100 / (1 + len(others)),
        "AP": _average_precision(above[right | wrong], right[right | wrong]),
        "AP_chance": _share(right[right | wrong]),
        "right_masks": int(right.sum()),
        "wrong_masks": int(wrong.sum()),
    }


def _share(hits: np.ndarray) -> float | None:
    return 100 * float(hits.mean()) if len(hits) else None


def _average_precision(scores: np.ndarray, right: np.ndarray) -> float | None:
    """(n,) scores and (n,) bool -> in percent: the mean precision down to each right one."""
    hits = right[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)  # (n,)
    return _share(precision[hits])
