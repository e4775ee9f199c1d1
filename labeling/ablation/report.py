"""The ablation as Markdown and JSON, with every sentence made from the numbers or the recipe."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from labeling.ablation.ledger import Spent
from labeling.ablation.recipe import Table
from labeling.ablation.results import Results
from labeling.ablation.verdicts import judge
from maskclip.json_file import write_json
from proposal.whole_file import write_whole

HEADS = {
    "top1": "true masks, top-1",
    "mean_per_class": "mean per class",
    "clip": "mIoU, CLIP alone",
    "fused": "mIoU, fused",
    "stage1": "mIoU, stage 1 alone",
}
COMMAND = "make ablation"
MUTE = (
    "*Fused and stage 1 alone are left out: the proposer `{proposer}` gives masks without "
    "embeddings in CLIP's space, so stage 1 cannot name.*"
)


def write_report(
    path: Path, results: Results, spent: Spent, pairs: dict[str, dict[str, int]]
) -> None:
    """Write ``path`` (Markdown) and the JSON of the same stem beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, markdown(results, spent, pairs).encode())
    write_json(path.with_suffix(".json"), content(results, spent, pairs))


def markdown(results: Results, spent: Spent, pairs: dict[str, dict[str, int]]) -> str:
    """The whole report."""
    recipe = results.recipe
    parts = ["# The ablation in small", recipe.intro.strip(), _state(results, spent)]
    if results.measured and not results.has("fused"):
        parts.append(MUTE.format(proposer=recipe.proposer))
    if counted := _count(pairs):
        parts.append(counted)
    for table in recipe.tables:
        parts += [f"## {table.title}", *([table.text.strip()] if table.text else [])]
        parts.append(_table(table, results))
    if recipe.paper:
        parts += ["## Against the paper", _comparison(results)]
    if recipe.notes:
        parts += ["## What differs from the paper", _bullets(recipe.notes)]
    return "\n\n".join(parts) + "\n"


def content(results: Results, spent: Spent, pairs: dict[str, dict[str, int]]) -> dict[str, Any]:
    """The same as plain values: every seed's numbers, spreads of the rows, verdicts."""
    recipe = results.recipe
    spreads = {
        run.name: {
            number: asdict(spread)
            for number in HEADS
            if (spread := results.spread(run.name, number)) is not None
        }
        for run in recipe.runs
    }
    return {
        "proposer": recipe.proposer,
        "fusion_weight": recipe.fusion_weight,
        "runs": {
            f"{run} seed {seed}": dict(each) for (run, seed), each in results.measured.items()
        },
        "spreads": spreads,
        "paper": [asdict(judge(one, results)) for one in recipe.paper],
        "self_labelled": pairs,
        "minutes": {"wall": spent.wall / 60, "cpu": spent.cpu / 60},
        "missing": results.missing(),
    }


def _state(results: Results, spent: Spent) -> str:
    """What is there, how long it took, and what to do if it is not all."""
    measured = len(results.measured)
    time = f"{spent.cpu / 60:.0f} minutes of one CPU core ({spent.wall / 60:.0f} by the clock)"
    missing = results.missing()
    if not missing:
        return f"All {measured} runs are here; they took {time}, caches and evaluation included."
    return (
        f"**Not complete**: {measured} of {measured + len(missing)} runs are here, which took "
        f"{time}. Missing: {', '.join(missing)}. `{COMMAND}` goes on where it was."
    )


def _count(pairs: dict[str, dict[str, int]]) -> str:
    told = [
        f"{counts['pairs']:,} pairs of {counts['nouns']:,} nouns from "
        + {"first": "one caption a photo", "all": "all captions"}[name]
        for name, counts in pairs.items()
        if counts
    ]
    return f"Self-labelling gave {' and '.join(told)}." if told else ""


def _table(table: Table, results: Results) -> str:
    columns = [each for each in table.columns if results.has(each) or not results.measured]
    lines = [_line(["", *(HEADS[each] for each in columns)])]
    lines.append("|---|" + "---:|" * len(columns))
    for row in table.rows:
        title, wanted = row.title, len(results.recipe.run(row.run).seeds)
        spreads = [results.spread(row.run, each) for each in columns]
        there = max((spread.seeds for spread in spreads if spread), default=0)
        if 0 < there < wanted:
            title += f" ({there} of {wanted} seeds)"
        lines.append(_line([title, *("–" if each is None else str(each) for each in spreads)]))
    return "\n".join(lines)


def _comparison(results: Results) -> str:
    """Every direction of the paper, and how many of them are found."""
    verdicts = [judge(one, results) for one in results.recipe.paper]
    counts = {
        word: sum(word in one.verdict for one in verdicts)
        for word in ("agrees", "disagrees", "undecided", "not measured")
    }
    counts["agrees"] -= counts["disagrees"]  # which holds the word, too
    told = ", ".join(f"{number} {word}" for word, number in counts.items() if number)
    lines = [
        f"Of {len(verdicts)} directions: {told}.",
        "",
        _line(["the paper finds", "paper", "here", "difference here", "beside it", "verdict"]),
        "|---|---|---|---:|---|---|",
    ]
    lines += [_line(list(asdict(one).values())) for one in verdicts]
    return "\n".join(lines)


def _bullets(notes: tuple[str, ...]) -> str:
    return "\n".join(f"- {note.strip()}" for note in notes)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")
