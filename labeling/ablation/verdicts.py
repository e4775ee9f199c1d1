"""Does the small scale find what the paper finds?"""

from __future__ import annotations

from dataclasses import dataclass

from labeling.ablation.recipe import Direction
from labeling.ablation.results import Results, Spread


@dataclass(frozen=True)
class Verdict:
    """A direction of the paper beside what was measured here; differences are better - worse."""

    what: str
    paper: str
    here: str
    difference: str
    beside: str  # where end to end is compared: the differences of CLIP alone and on true masks
    verdict: str  # agrees | disagrees | undecided | not measured


def judge(direction: Direction, results: Results) -> Verdict:
    """Undecided is a difference that is not larger than its standard deviation over the seeds."""
    better = results.spread(direction.better, direction.better_value)
    worse = results.spread(direction.worse, direction.worse_value)
    paper = _numbers(direction.paper)
    if better is None or worse is None:
        return Verdict(direction.what, paper, "–", "–", "–", _why_not(direction, results))
    difference, deviation = _difference(better, worse)
    told = f"{difference:+.1f}" + ("" if deviation is None else f" ± {deviation:.1f}")
    return Verdict(
        direction.what,
        paper,
        f"{better} against {worse}",
        told,
        _beside(direction, results),
        _decide(difference, deviation),
    )


def _beside(direction: Direction, results: Results) -> str:
    if (direction.better_value, direction.worse_value) != ("mIoU", "mIoU"):
        return "–"
    told = []
    for number, name in (("clip", "CLIP alone"), ("top1", "top-1")):
        better, worse = (results.spread(run, number) for run in (direction.better, direction.worse))
        if better and worse and results.real("mIoU") != number:
            told.append(f"{name} {_difference(better, worse)[0]:+.1f}")
    return ", ".join(told) or "–"


def _decide(difference: float, deviation: float | None) -> str:
    if deviation is None:
        return ("agrees" if difference > 0 else "**disagrees**") + ", of one seed only"
    if abs(difference) <= deviation:
        return "undecided: within the deviation"
    return "agrees" if difference > 0 else "**disagrees**"


def _difference(better: Spread, worse: Spread) -> tuple[float, float | None]:
    """-> of two independent numbers, and its deviation; none if neither has one."""
    own = [one.deviation for one in (better, worse) if one.deviation is not None]
    return better.mean - worse.mean, sum(each**2 for each in own) ** 0.5 if own else None


def _why_not(direction: Direction, results: Results) -> str:
    values = [results.real(each) for each in (direction.better_value, direction.worse_value)]
    mute = [each for each in values if each in ("fused", "stage1") and not results.has(each)]
    if mute and results.measured:
        return "not measured: stage 1 cannot name"
    return "not measured yet"


def _numbers(paper: tuple[float, ...]) -> str:
    return " against ".join(f"{number:g}" for number in paper) or "direction only"
