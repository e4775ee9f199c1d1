"""Which nouns a set of captions has, and how fast they are found."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labeling.captions import read_captions
from labeling.nouns import NounParser

TOP = 50


def read_texts(path: str | Path) -> list[str]:
    """All captions of a file as ``read_captions`` takes it, or of a JSON list of texts.

    Raises:
        FileNotFoundError, ValueError: as ``read_captions``.
    """
    path = Path(path)
    if path.suffix.lower() == ".json" and path.is_file() and path.read_bytes()[:1] == b"[":
        texts = json.loads(path.read_text(encoding="utf-8-sig"))
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{path} must be a JSON list of captions, or COCO captions JSON")
        return texts
    return [caption.text for image in read_captions(path) for caption in image.captions]


def count_nouns(parser: NounParser, captions: Sequence[str]) -> dict[str, Any]:
    """Captions -> how many, unique nouns, the commonest, nouns a caption, captions a second.

    The parser is loaded before the clock starts.
    """
    list(parser.nouns(captions[:1]))
    start = time.perf_counter()
    found = list(parser.nouns(captions))
    seconds = time.perf_counter() - start
    counts = Counter(noun for nouns in found for noun in nouns)
    return {
        "captions": len(captions),
        "captions_without_nouns": sum(not nouns for nouns in found),
        "unique_nouns": len(counts),
        "unique_compounds": sum(" " in noun for noun in counts),
        "nouns_per_caption": sum(counts.values()) / max(1, len(captions)),
        "captions_per_second": len(captions) / max(seconds, 1e-9),
        "top_nouns": dict(sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:TOP]),
    }


def table(numbers: Mapping[str, Any]) -> str:
    """The counts as a person reads them."""
    lines = [
        f"{numbers['captions']:,} captions, {numbers['captions_without_nouns']:,} without nouns",
        f"{numbers['unique_nouns']:,} unique nouns, {numbers['unique_compounds']:,} of them of "
        "several words",
        f"{numbers['nouns_per_caption']:.2f} nouns a caption",
        f"{numbers['captions_per_second']:,.0f} captions a second",
        "the commonest: "
        + ", ".join(f"{noun} {count:,}" for noun, count in numbers["top_nouns"].items()),
    ]
    return "\n".join(lines)
