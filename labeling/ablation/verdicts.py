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
    verdict: str  # agrees | disagrees | undecided | not measured


def judge(direction: Direction, results: Results) -> Verdict:
    """Undecided is a difference that is not larger than its standard deviation over the seeds."""
    better = results.spread(direction.better, direction.better_value)
    worse = results.spread(direction.worse, direction.worse_value)
    paper = _numbers(direction.paper)
    if better is None or worse is None:
        return Verdict(direction.what, paper, "–", "–", _why_not(direction, results))
    difference = better.mean - worse.mean
    deviation = _deviation(better, worse)
    told = f"{difference:+.1f}" + ("" if deviation is None else f" ± {deviation:.1f}")
    return Verdict(
        direction.what, paper, f"{better} against {worse}", told, _decide(difference, deviation)
    )


def _decide(difference: float, deviation: float | None) -> str:
    if deviation is None:
        return ("agrees" if difference > 0 else "**disagrees**") + ", of one seed only"
    if abs(difference) <= deviation:
        return "undecided: within the deviation"
    return "agrees" if difference > 0 else "**disagrees**"


def _deviation(better: Spread, worse: Spread) -> float | None:
    """Of the difference of two independent numbers; none if neither has one."""
    own = [one.deviation for one in (better, worse) if one.deviation is not None]
    return sum(each**2 for each in own) ** 0.5 if own else None


def _why_not(direction: Direction, results: Results) -> str:
    values = [results.real(each) for each in (direction.better_value, direction.worse_value)]
    mute = [each for each in values if each in ("fused", "stage1") and not results.has(each)]
    if mute and results.measured:
        return "not measured: stage 1 cannot name"
    return "not measured yet"


def _numbers(paper: tuple[float, ...]) -> str:
    return " against ".join(f"{number:g}" for number in paper) or "direction only"
