"""Which settings a search tries."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from maskclip.segmentor_config import SegmentorConfig
from proposal.configuration import override_config

SECTION = "segmentor."


def parse_search(texts: Sequence[str]) -> tuple[dict[str, str], ...]:
    """``fusion_weight=0,0.5 mask_threshold=0.4,0.5`` -> every combination, as settings.

    Any setting of the Segmentor may be searched, with ``segmentor.`` before it or without.

    Raises:
        ValueError: no values, an unknown setting, a value outside its range.
    """
    values: dict[str, list[str]] = {}
    for text in texts:
        name, equals, listed = text.removeprefix(SECTION).partition("=")
        choices = [value.strip() for value in listed.split(",") if value.strip()]
        if not equals or not choices:
            raise ValueError(f"--search needs setting=value,value,..., got {text!r}")
        for value in choices:
            override_config(SegmentorConfig(), [f"{name}={value}"])
        values.setdefault(name, []).extend(choices)
    combinations = product(*(dict.fromkeys(choices) for choices in values.values()))
    return tuple(dict(zip(values, each, strict=True)) for each in combinations) if values else ()
