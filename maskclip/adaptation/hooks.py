"""What happens around the steps of an adaptation."""

from __future__ import annotations

from collections.abc import Callable

from detectron2.engine import HookBase

from maskclip.adaptation.teacher import RegionTeacher


class ClampScale(HookBase):
    """Keeps the logit scale within its bounds, and notes it."""

    def __init__(self, teacher: RegionTeacher) -> None:
        self.teacher = teacher

    def after_step(self) -> None:
        """Clamp."""
        self.teacher.clamp_scale()
        self.trainer.storage.put_scalar("logit_scale", self.teacher.clip.logit_scale)


class Measure(HookBase):
    """Measures every so many steps; the end is the caller's."""

    def __init__(self, period: int, measure: Callable[[], dict[str, float]]) -> None:
        self.period = period
        self.measure = measure

    def after_step(self) -> None:
        """Measure if it is time."""
        done = self.trainer.iter + 1
        if self.period and done % self.period == 0 and done < self.trainer.max_iter:
            self.trainer.storage.put_scalars(**self.measure(), smoothing_hint=False)
