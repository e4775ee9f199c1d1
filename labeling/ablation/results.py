"""What the runs of an ablation measured, over their seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean, stdev

from labeling.ablation.recipe import Recipe

Measured = Mapping[tuple[str, int], Mapping[str, float]]  # by run and seed: number by its name


@dataclass(frozen=True)
class Spread:
    """The mean over seeds and, of two or more, their standard deviation."""

    mean: float
    deviation: float | None
    seeds: int

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Of at least one value."""
        return cls(mean(values), stdev(values) if len(values) > 1 else None, len(values))

    def __str__(self) -> str:
        deviation = "" if self.deviation is None else f" ± {self.deviation:.1f}"
        return f"{self.mean:.1f}{deviation}"


@dataclass(frozen=True)
class Results:
    """All that is measured so far."""

    recipe: Recipe
    measured: Measured

    def has(self, number: str) -> bool:
        """Was this number measured at all? Where stage 1 cannot name, some never are."""
        return any(number in numbers for numbers in self.measured.values())

    def real(self, value: str) -> str:
        """``mIoU`` is the fused one where stage 1 can name, else CLIP's alone."""
        if value != "mIoU":
            return value
        return "fused" if self.has("fused") else "clip"

    def spread(self, run: str, value: str) -> Spread | None:
        """A number of a run over its measured seeds; none while there is none."""
        number = self.real(value)
        found = [
            self.measured[run, seed][number]
            for seed in self.recipe.run(run).seeds
            if number in self.measured.get((run, seed), {})
        ]
        return Spread.of(found) if found else None

    def missing(self) -> list[str]:
        """The runs that are not measured yet, with their seeds."""
        return [
            f"{run.name} (seed {seed})"
            for run in self.recipe.runs
            for seed in run.seeds
            if (run.name, seed) not in self.measured
        ]
