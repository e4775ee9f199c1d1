"""What happens between the steps of a training, in detectron2's hooks."""

from __future__ import annotations

import io
import logging
import math
import pickle
import random
import signal
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import Tensor, nn

from proposal.training_processes import any_process
from proposal.whole_file import write_whole

logger = logging.getLogger(__name__)
STATE_NAME = "training_state.pth"  # what --resume continues from


class ClipGradients(HookBase):
    """Scales the whole model's gradient down to a norm; writes the norm it had."""

    def __init__(self, network: nn.Module, max_norm: float) -> None:
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.max_norm = max_norm

    def after_backward(self) -> None:
        """Clip."""
        norm = nn.utils.clip_grad_norm_(self.parameters, self.max_norm)
        self.trainer.storage.put_scalar("gradient_norm", norm.item(), smoothing_hint=True)


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


class SaveState(HookBase):
    """Saves all that --resume needs, every few minutes and at the end; files appear whole."""

    def __init__(
        self,
        folder: Path,
        parts: dict[str, Any],
        minutes: float,
        also: Callable[[int], None],
    ) -> None:
        """``parts``: objects with state dicts; ``also``: is told the iterations done."""
        self.path = folder / STATE_NAME
        self.parts = parts
        self.seconds = minutes * 60
        self.also = also
        self.saved_at = time.monotonic()
        self.done = -1  # iterations in the file

    def before_train(self) -> None:
        """Start the clock."""
        self.saved_at = time.monotonic()
        self.done = self.trainer.start_iter

    def after_step(self) -> None:
        """Save if it is time, or the end."""
        done = self.trainer.iter + 1
        if time.monotonic() - self.saved_at >= self.seconds or done == self.trainer.max_iter:
            self._save(done)

    def save_interrupted(self, done: int) -> None:
        """Save after a stop between two steps."""
        if done > self.done:
            self._save(done)

    def _save(self, done: int) -> None:
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state["random"] = torch.get_rng_state()
        state["iterations_done"] = done
        save_state(self.path, state)
        self.also(done)
        self.saved_at = time.monotonic()
        self.done = done
        logger.info("saved after %d iterations in %s", done, self.path.parent)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers and containers of them."""
    content = io.BytesIO()
    torch.save(state, content)
    write_whole(path, content.getvalue())


def load_state(path: Path) -> dict[str, Any]:
    """Read what ``save_state`` wrote; nothing in the file is executed.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is damaged, start anew without --resume: {reason}") from error


def restore(state: dict[str, Any], parts: dict[str, Any], where: Path) -> int:
    """Put a state back into its parts -> the iterations done.

    Raises:
        ValueError: the state belongs to another configuration.
    """
    try:
        for name, part in parts.items():
            part.load_state_dict(state[name])
        random: Tensor = state["random"]
        torch.set_rng_state(random)
        return int(state["iterations_done"])
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{where} was written by a training with another configuration: {reason}"
        ) from error


def resume_from(folder: Path, parts: dict[str, Any], resume: bool) -> int:
    """Put what was saved in ``folder`` back into its parts -> the iterations done, 0 if none.

    Raises:
        ValueError: what was saved is damaged, or belongs to another configuration.
    """
    path, start = folder / STATE_NAME, 0
    if resume and path.is_file():
        start = restore(load_state(path), parts, path)
        logger.info("resuming after %d iterations", start)
    elif resume:
        logger.info("nothing was saved in %s so far: starting anew", folder)
    return start
