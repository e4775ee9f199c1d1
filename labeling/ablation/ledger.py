"""How long each step took, over all calls that worked on it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, and those that this process computed."""

    step: str
    wall: float
    cpu: float


class Ledger:
    """A file to which every step adds a line, finished or interrupted."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def time(self, step: str) -> Iterator[None]:
        """Add what the block takes."""
        wall, cpu = time.monotonic(), time.process_time()
        try:
            yield
        finally:
            spent = Spent(step, time.monotonic() - wall, time.process_time() - cpu)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(spent)) + "\n")

    def total(self, steps: set[str]) -> Spent:
        """The sum over these steps."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        found = [spent for spent in (Spent(**json.loads(line)) for line in lines)]
        own = [spent for spent in found if spent.step in steps]
        return Spent("total", sum(one.wall for one in own), sum(one.cpu for one in own))
