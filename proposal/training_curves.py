"""A run's losses as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from proposal.training_metrics import AUXILIARY, METRICS_NAME, read_metrics

CURVES_NAME = "curves.png"


def draw_curves(folder: Path) -> Path | None:
    """Draw ``folder/metrics.jsonl`` into ``folder/curves.png``; nothing if it has no lines.

    One panel for the whole loss, one for its terms, one for the learning rate, one for what was
    measured on the validation data, where there is any.
    """
    lines = read_metrics(folder / METRICS_NAME)
    panels = {title: names for title, names in _panels(lines).items() if names}
    if not panels:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(panels), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (title, names) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), place)
        for name in names:
            points = [(at["iteration"] + 1, at[name]) for at in lines if at.get(name) is not None]
            mark = "o-" if len(points) < 30 else "-"
            axes.plot(*zip(*points, strict=True), mark, label=name, markersize=3, linewidth=1.2)
        axes.set_title(title)
        axes.set_xlabel("iteration")
        axes.grid(alpha=0.3)
        if len(names) > 1:
            axes.legend(fontsize="small")
    path = folder / CURVES_NAME
    figure.savefig(path, dpi=110)
    return path


def _panels(lines: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Titles -> the scalars drawn under each."""
    known = dict.fromkeys(name for at in lines for name in at if at[name] is not None)
    terms = [n for n in known if n.startswith("loss") and not AUXILIARY.fullmatch(n)]
    measured = [n for n in known if "/" in n]
    return {
        "total loss": [n for n in ("total_loss",) if n in known],
        "terms of the loss": terms if len(terms) > 1 else [],
        "learning rate": [n for n in ("lr",) if n in known],
        "validation (%)": [n for n in measured if n.endswith(FAVOURITES)] or measured[:6],
    }


FAVOURITES = ("AR@100", "best_overlap", "accuracy", "top1", "mIoU")
