"""What a labelling run found, in numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from labeling.pair_stream import stream_columns
from maskclip.json_file import write_json

QUANTILES = (0, 5, 25, 50, 75, 95, 100)  # percent of the pairs
TOP = 50  # nouns that are listed
TOLD = 100  # photos that are listed of those left out; skipped.jsonl has all


def write_pair_summary(folder: str | Path, counts: Mapping[str, int]) -> dict[str, Any]:
    """Write ``summary.json`` of a complete run, and return it.

    ``counts`` are the run's own totals (``images``, ``captions``, ``nouns``, ``skipped`` …) and
    come first. Of what the shards hold, only scores and nouns are in memory.
    """
    summary = {**counts, **summarize_pairs(folder), "skipped_images": read_skipped(folder)}
    write_json(Path(folder) / "summary.json", summary)
    return summary


def summarize_pairs(folder: str | Path) -> dict[str, Any]:
    """Counts of a pairs folder: pairs, unique nouns, quantiles of the scores, the top nouns.

    ``labeled_images`` have at least one pair. Areas are shares of the photo.
    """
    nouns: Counter[str] = Counter()
    images: set[str] = set()
    parts: dict[str, list[np.ndarray]] = {"score": [], "probability": [], "area": []}
    columns = ("image", "noun", "score", "probability", "area", "height", "width")
    for batch in stream_columns(folder, columns):
        nouns.update(batch["noun"].to_pylist())
        images.update(batch["image"].to_pylist())
        values = {name: batch[name].to_numpy(zero_copy_only=False) for name in columns[2:]}
        pixels = values["height"].astype(np.float64) * values["width"]
        parts["score"].append(values["score"])
        parts["probability"].append(values["probability"])
        parts["area"].append((values["area"] / pixels).astype(np.float32))
    return {
        "pairs": sum(nouns.values()),
        "labeled_images": len(images),
        "unique_nouns": len(nouns),
        **{name: _quantiles(found) for name, found in parts.items()},
        "top_nouns": dict(sorted(nouns.items(), key=lambda one: (-one[1], one[0]))[:TOP]),
    }


def read_skipped(folder: str | Path) -> list[dict[str, Any]]:
    """The first ``TOLD`` lines of ``skipped.jsonl``: photos that were left out, and why."""
    path = Path(folder) / "skipped.jsonl"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="replace") as file:
        return [json.loads(line) for _, line in zip(range(TOLD), file, strict=False)]


def table(summary: Mapping[str, Any]) -> str:
    """The summary as a person reads it, line by line."""
    order = ("images", "skipped", "captions", "nouns", "pairs", "unique_nouns")
    lines = [f"{key.replace('_', ' '):<14}{summary[key]:>10,}" for key in order if key in summary]
    for name in ("score", "probability", "area"):
        if summary.get(name):
            told = "  ".join(f"{key}% {value:.3f}" for key, value in summary[name].items())
            lines.append(f"{name:<14}{told}")
    top = ", ".join(f"{noun} {count:,}" for noun, count in list(summary["top_nouns"].items())[:12])
    return "\n".join([*lines, f"{'top nouns':<14}{top}"])


def _quantiles(parts: list[np.ndarray]) -> dict[str, float]:
    values = np.concatenate(parts) if parts else np.zeros(0)
    if not len(values):
        return {}
    found = np.percentile(values.astype(np.float64), QUANTILES)
    return {str(q): round(float(value), 6) for q, value in zip(QUANTILES, found, strict=True)}
