"""Milliseconds per stage of the work."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch

STAGES = ("propose", "crop", "clip", "assemble")  # that results tell of


class Stopwatch:
    """Adds up time by stage; work still under way on an accelerator is waited for."""

    def __init__(self, device: torch.device, spent: Mapping[str, float] | None = None) -> None:
        """The device that the work is done on; milliseconds that earlier stages took."""
        self.milliseconds = dict(spent or {})
        self._device = device
        self._start = self._now()

    def lap(self, stage: str) -> None:
        """Add the time since the last lap to a stage."""
        now = self._now()
        self.milliseconds[stage] = self.milliseconds.get(stage, 0.0) + now - self._start
        self._start = now

    def report(self) -> dict[str, float]:
        """Every stage, zero where nothing was done, and the total, which holds the rest as well."""
        stages = {stage: self.milliseconds.get(stage, 0.0) for stage in STAGES}
        return {**stages, "total": sum(self.milliseconds.values())}

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return 1000 * time.perf_counter()
