"""The HTML of an evaluation's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskclip.benchmarks.labelled_set import LabelledSet
    from maskclip.benchmarks.report import Pair

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 1560px;
  margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em; margin-bottom: .2em }
h2 { font-size: 1.15em; margin-top: 2em }
p.about { color: #666; margin-top: 0 }
table { border-collapse: collapse }
th, td { padding: .2em .8em .2em 0; text-align: left; vertical-align: middle }
th { border-bottom: 2px solid #bbb; cursor: pointer }
td { border-bottom: 1px solid #eee; max-width: 22em; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.big { display: flex; gap: 2em; flex-wrap: wrap }
.big b { display: block; font-size: 1.7em }
.bar { display: inline-block; height: .7em; background: #307ef0; border-radius: 2px }
.columns { display: flex; gap: 3em; flex-wrap: wrap; align-items: flex-start }
.shown { margin: 0 0 1.6em }
.shown .row { display: flex; gap: .6em; align-items: flex-start; flex-wrap: wrap }
figure { margin: 0 }
figcaption { color: #666; font-size: .85em }
img { display: block }
figcaption { width: 460px }
.name { white-space: nowrap; margin-left: .7em; display: inline-block; max-width: 20em;
  overflow: hidden; text-overflow: ellipsis; vertical-align: bottom }
.name i { display: inline-block; width: .8em; height: .8em; margin-right: .3em }
"""
# A click on a column's head sorts its table, another click turns the order around
SCRIPT = """
document.querySelectorAll('table.sort th').forEach(head => head.onclick = () => {
  const body = head.closest('table').tBodies[0], column = head.cellIndex;
  const sign = head.dataset.sign = -(head.dataset.sign ?? 1);
  const key = row => row.cells[column].textContent;
  const compare = (a, b) => isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
  [...body.rows].sort((a, b) => sign * compare(key(a), key(b))).forEach(row => body.append(row));
});
"""


@dataclass(frozen=True)
class Drawn:
    """A photo under labels, as a data URL, with the names of these."""

    url: str
    legend: tuple[tuple[str, str, tuple[int, int, int]], ...]  # name, share, RGB colour


@dataclass(frozen=True)
class Shown:
    """One photo of a gallery."""

    title: str
    score: float  # its mIoU, percent
    accuracy: float  # of its counted pixels, percent
    photo: str  # data URL
    truth: Drawn
    said: Drawn


def write_page(
    labelled: LabelledSet,
    metrics: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    pairs: Sequence[Pair],
    galleries: Mapping[str, Sequence[Shown]],
) -> str:
    """-> one page that needs no other file."""
    model = metrics["model"]
    parts = [model["model"], model["proposer"], model["clip"]]
    who = escape(" + ".join(str(part) for part in parts if part))
    counted = f"{len(labelled.names):,} names, {metrics['pixels']:,} counted pixels"
    about = f"{who} on {metrics['photos']:,} photos, {counted}"
    settings = [f"background={model['background']}", *model["overrides"]]
    if metrics.get("oracle"):
        settings.append(f"oracle={metrics['oracle']}")
    return "\n".join(
        [
            "<!doctype html><html lang=en><meta charset=utf-8>",
            f"<title>{escape(labelled.title)}</title><style>{STYLE}</style>",
            f"<h1>{escape(labelled.title)}</h1><p class=about>{about} · "
            f"{escape(', '.join(settings))}</p>",
            _numbers(metrics),
            _search(metrics),
            "<div class=columns>",
            f"<div><h2>Names ({len(rows)} there or said)</h2>{_names(rows)}</div>",
            f"<div><h2>Confusions that cost most pixels</h2>{_pairs(pairs)}</div>",
            "</div>",
            *(_gallery(title, shown) for title, shown in galleries.items()),
            f"<script>{SCRIPT}</script></html>",
        ]
    )


def _numbers(metrics: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in metrics.items() if isinstance(value, float)}
    cells = "".join(f"<div><b>{value:.1f}</b>{escape(key)}</div>" for key, value in shown.items())
    return f"<div class=big>{cells}</div>"


def _search(metrics: Mapping[str, Any]) -> str:
    if "search" not in metrics:
        return ""
    head = [*metrics["best"], "mIoU", "mIoU_union", "pACC"]
    rows = [
        [str(row[key]) if key in metrics["best"] else f"{row[key]:.2f}" for key in head]
        for row in metrics["search"]
    ]
    best = ", ".join(f"{key} {value}" for key, value in metrics["best"].items())
    return f"<h2>Search: best {escape(best)}</h2>{_table(head, rows, text=0)}"


def _names(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = []
    for row in sorted(rows, key=lambda each: (-each["IoU"], each["name"])):
        accuracy = "" if row["ACC"] is None else f"{row['ACC']:.1f}"
        bar = f"<span class=bar style='width:{row['IoU']:.0f}px'></span>"
        cells.append(
            f"<tr><td>{escape(row['name'])}<td class=n>{row['IoU']:.1f}<td>{bar}<td class=n>"
            f"{accuracy}<td class=n>{row['share']:.2f}<td>{escape(row['taken'])}"
        )
    head = (
        "<th>name<th class=n>IoU<th><th class=n>accuracy<th class=n>% of pixels<th>most taken for"
    )
    return f"<table class=sort><thead><tr>{head}<tbody>{''.join(cells)}</table>"


def _pairs(pairs: Sequence[Pair]) -> str:
    rows = [[p.true, p.said, f"{p.share:.1f}", str(p.pixels)] for p in pairs]
    return _table(["true", "said", "% of the true", "pixels"], rows, text=2)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, text: int) -> str:
    """Strings -> a table whose first ``text`` columns are words, the others numbers."""
    tags = ["" if column < text else " class=n" for column in range(len(head))]
    titles = "".join(f"<th{tag}>{escape(name)}" for tag, name in zip(tags, head, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{tag}>{escape(cell)}" for tag, cell in zip(tags, row, strict=True))
        for row in rows
    )
    return f"<table class=sort><thead><tr>{titles}<tbody>{body}</table>"


def _gallery(title: str, shown: Sequence[Shown]) -> str:
    if not shown:
        return ""
    return f"<h2>{escape(title)}</h2>" + "".join(_photo(each) for each in shown)


def _photo(shown: Shown) -> str:
    drawn = (("photo", Drawn(shown.photo, ())), ("true", shown.truth), ("said", shown.said))
    figures = "".join(
        f"<figure><img src='{each.url}' alt='{what}'><figcaption>{what} {_legend(each)}"
        "</figcaption></figure>"
        for what, each in drawn
    )
    return (
        f"<div class=shown><b>{escape(shown.title)}</b>: mIoU {shown.score:.1f}, "
        f"{shown.accuracy:.1f}% of its pixels right<div class=row>{figures}</div></div>"
    )


def _legend(drawn: Drawn) -> str:
    return "".join(
        f"<span class=name><i style='background:rgb{colour}'></i>{escape(name)} {share}</span> "
        for name, share, colour in drawn.legend
    )
