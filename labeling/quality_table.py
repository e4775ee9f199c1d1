"""Measurements of a model as a table, and how those of two models compare."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labeling.queries import MEASURES

PIXELS = ("mIoU", "mIoU_union", "pACC", "seen_mIoU", "unseen_mIoU", "hIoU")
ROWS = {  # measurement: the lines of the table, each a title and the numbers that it shows
    "proposals": {"": ("AR@10", "AR@100", "AR@100_large", "best_overlap", "AR@100_ratio")},
    "superpixels": {"": ("AR@10", "AR@100", "AR@100_large", "best_overlap")},
    "regions": {
        "": ("top1", "top5", "mean_per_class"),
        "seen masks among all names": ("seen_top1", "seen_mean_per_class"),
        "unseen masks among all names": ("unseen_top1", "unseen_mean_per_class"),
        "harmonic mean of seen and unseen": ("h_top1", "h_mean_per_class"),
        "seen and unseen, calibrated": (
            "calibrated_seen_top1",
            "calibrated_unseen_top1",
            "calibrated_h_top1",
            "calibrated_area",
        ),
        "unseen masks among the unseen names": (
            "unseen_alone_top1",
            "unseen_alone_mean_per_class",
            "unseen_alone_chance",
        ),
    },
    "pixels": {"": PIXELS},
    "voc": {"": PIXELS[:3]},
    "msrc": {"": PIXELS},
    "queries": {"": MEASURES},
}
FACTORS = ("AR@100_ratio",)  # that are no percent
COUNTS = ("regions", "pixels", "queries", "right_masks", "wrong_masks")
NOT_COMPARED = (
    *COUNTS,
    *("photos", "unseen_regions", "chance", "AP_chance", "unseen_alone_chance", "calibrated_start"),
)
LOWER_IS_BETTER = ("wrong",)
TIE = 1e-9


def table(numbers: dict[str, Any]) -> str:
    """The numbers as a Markdown table, a line per measurement, contestant and title."""
    lines = ["| measured | who | numbers (%) |", "|---|---|---|"]
    for part, titles in ROWS.items():
        for who, metrics in numbers.get(part, {}).items():
            for title, keys in titles.items():
                shown = [f"{key} {_number(key, metrics[key])}" for key in keys if key in metrics]
                if shown:
                    counted = "" if title else _counted(metrics)
                    about = f"{who}, {title}" if title else who
                    lines.append(f"| {part} | {about} | {', '.join(shown)}{counted} |")
            for text, shares in metrics.get("per_query", {}).items():
                shown = ", ".join(
                    f"{key} {shares[key]:.1f}" for key in ("right", "wrong", "AP") if key in shares
                )
                masks = shares["right_masks"]
                lines.append(f"| {part} | {_cell(text)} | {shown} of {masks:,} right masks |")
    return "\n".join(lines)


def read_numbers(path: str | Path) -> dict[str, Any]:
    """What ``measure_nano --output`` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of measurements {path}: check the path")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be what measure_nano wrote, it is no JSON") from error
    if not isinstance(content, dict) or not any(part in content for part in ROWS):
        raise ValueError(f"{path} must be what measure_nano wrote, it holds none of its parts")
    return content


def compare(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Every number of the model that both have, as a Markdown table; a last line counts them.

    Baselines, counts, chances and the numbers of single names are left out.
    """
    before, after = dict(_model_numbers(old)), dict(_model_numbers(new))
    lines = ["| number | old | new | difference | better |", "|---|---:|---:|---:|---|"]
    verdicts = []
    for label, value in after.items():
        if label in before:
            difference = value - before[label]
            verdicts.append(_verdict(label, difference))
            lines.append(
                f"| {_cell(label)} | {before[label]:.2f} | {value:.2f} | {difference:+.2f} |"
                f" {verdicts[-1]} |"
            )
    missing = (
        f" {len(after) - len(verdicts)} have no old number." if len(after) > len(verdicts) else ""
    )
    lines += ["", f"{verdicts.count('yes')} of {len(verdicts)} numbers are better.{missing}"]
    return "\n".join(lines)


def _model_numbers(numbers: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for part in ROWS:
        metrics = numbers.get(part, {}).get("model", {})
        groups = {"": metrics, **metrics.get("per_query", {})}
        for title, group in groups.items():
            for key, value in group.items():
                known = isinstance(value, int | float) and math.isfinite(value)
                if known and key not in NOT_COMPARED:
                    yield " ".join(filter(None, (part, title, key))), float(value)


def _verdict(label: str, difference: float) -> str:
    if abs(difference) < TIE:
        return "same"
    lower = label.rpartition(" ")[2] in LOWER_IS_BETTER
    return "yes" if (difference < 0) == lower else "no"


def _number(key: str, value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.2f} times" if key in FACTORS else f"{value:.1f}"


def _counted(metrics: dict[str, Any]) -> str:
    return "".join(f" {metrics[key]:,} {key}" for key in COUNTS if key in metrics)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")  # a pipe would end the cell
