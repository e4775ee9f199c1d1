"""What happens between the steps of a training, in detectron2's hooks."""

from __future__ import annotations

import logging
import math
import random
import signal
from collections.abc import Callable
from copy import deepcopy
from types import FrameType
from typing import Any

import numpy as np
import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from proposal.training_processes import any_process

logger = logging.getLogger(__name__)


class AverageWeights(HookBase):
    """Keeps an exponential moving average of the weights."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = network
        self.decay = decay
        self.average = deepcopy(network).requires_grad_(False).eval()

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the average; faster in the beginning, while it knows little."""
        step = self.trainer.iter
        decay = min(self.decay, (1 + step) / (10 + step))
        ours, theirs = self.average.state_dict(), self.network.state_dict()
        pairs = [(ours[k], v) for k, v in theirs.items() if v.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in pairs], [b for _, b in pairs], 1 - decay)


class SeedSteps(HookBase):
    """Seeds each step anew: its random numbers depend on seed, iteration and process alone.

    So nothing of the generators has to be saved, and whatever happens between two steps (a
    validation, a save) changes nothing.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_step(self) -> None:
        """Seed torch's generators (all devices'), NumPy's and Python's."""
        entropy = [self.seed, self.trainer.iter, comm.get_rank()]
        number = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        torch.manual_seed(number)
        random.seed(number)
        np.random.seed(number)  # noqa: NPY002  whoever draws from it is not ours


class StepSchedule(HookBase):
    """Moves the learning rates on, and notes the highest of all groups' as ``lr``."""

    def __init__(self, schedule: LRScheduler) -> None:
        self.schedule = schedule

    def after_step(self) -> None:
        """Note, then move on."""
        rates = [group["lr"] for group in self.schedule.optimizer.param_groups]
        self.trainer.storage.put_scalar("lr", max(rates), smoothing_hint=False)
        self.schedule.step()


class KeepBest(HookBase):
    """Validates every so many iterations, and after the last; keeps the best model."""

    def __init__(
        self,
        period: int,
        metric: str,
        validate: Callable[[], dict[str, float]],
        save: Callable[[int], None],
    ) -> None:
        """``metric``: which of what ``validate`` returns must be high; "" = nothing is kept.

        ``save``: writes the model, and is told the iterations done. The main process alone does
        both, the others wait.
        """
        self.period = period
        self.metric = metric
        self.validate = validate
        self.save = save
        self.value = -math.inf

    def after_step(self) -> None:
        """Validate if it is time."""
        done = self.trainer.iter + 1
        if done % self.period and done != self.trainer.max_iter:
            return
        if comm.is_main_process():
            metrics = self.validate()
            self._compare(metrics, done)
            told = "  ".join(f"{name}: {value:.2f}" for name, value in metrics.items())
            logger.info("validation after %d iterations: %s", done, told)
            scalars = {k if "/" in k else f"validation/{k}": v for k, v in metrics.items()}
            self.trainer.storage.put_scalars(**scalars, smoothing_hint=False)
        comm.synchronize()

    def state_dict(self) -> dict[str, float]:
        """The best value so far."""
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on comparing with it."""
        self.value = float(state["value"])

    def _compare(self, metrics: dict[str, float], done: int) -> None:
        if not self.metric:
            return
        if self.metric not in metrics:
            known = ", ".join(sorted(metrics)) or "nothing"
            raise ValueError(f"the best model is told by {self.metric}, measured was {known}")
        value = metrics[self.metric]
        if value > self.value:
            logger.info("%s %.2f after %d iterations is the best so far", self.metric, value, done)
            self.value = value
            self.save(done)


class Stopped(KeyboardInterrupt):
    """The user stopped a training, and it ended between two steps."""


class StopOnSignal(HookBase):
    """Ends a training between two steps on Ctrl-C or a request to terminate."""

    def __init__(self) -> None:
        self.stopped = False
        self.earlier: dict[int, Any] = {}

    def before_train(self) -> None:
        """Listen."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self.earlier[number] = signal.signal(number, self._stop)

    def after_step(self) -> None:
        """Leave the loop if any process was asked to; all of them leave after the same step."""
        if any_process(self.stopped):
            raise Stopped

    def after_train(self) -> None:
        """Stop listening."""
        for number, handler in self.earlier.items():
            signal.signal(number, handler)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        logger.info("stopping after this step; once more to stop at once")
        self.stopped = True
        signal.signal(number, self.earlier[number])
