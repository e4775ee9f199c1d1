"""One step of a training: accumulated, in mixed precision, stopped when it diverges."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from proposal.training_processes import mean_over_processes

# train.precision: the type of autocast. float32 has none; float16 also scales the loss.
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class DivergedError(ValueError):
    """A loss or gradient is no finite number any more."""


def mixed_precision(device: torch.device, precision: str) -> AbstractContextManager:
    """Autocast for ``train.precision``; put it around the network, not around the loss."""
    dtype = PRECISIONS[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def check_precision(precision: str) -> None:
    """Raise a ValueError where it is none of ``PRECISIONS``."""
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise ValueError(f"train.precision must be one of {known}, got {precision!r}")


class Trainer(SimpleTrainer):
    """detectron2's trainer (hooks, storage) with a step of ours.

    The step: ``accumulate`` batches go through the model one by one (on the mean of their
    gradients the optimizer moves once), the loss is scaled where the precision is float16, the
    gradient of the whole model is clipped, its norm is noted as ``gradient_norm``.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        precision: str = "float32",
        accumulate: int = 1,
        clip_norm: float = 0.0,
        prepare: Callable[[list[Any]], list[Any]] | None = None,
    ) -> None:
        """``model``: batch -> dict of losses, as ``training_processes.spread`` returns it.

        ``prepare``: is given the batches of a step (and may ask other processes) before the first
        of them goes through the model, for what has to be counted over the whole step.
        """
        super().__init__(model, [], optimizer)
        check_precision(precision)
        self.accumulate = accumulate
        self.clip_norm = clip_norm
        self.prepare = prepare
        device = next(model.parameters()).device
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
        self.parameters = [p for p in model.parameters() if p.requires_grad]

    def train(self, start_iter: int, max_iter: int) -> None:
        """As detectron2's, which prints a traceback for every error, our sentences included."""
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        with EventStorage(start_iter) as self.storage:
            try:
                self.before_train()
                for self.iter in range(start_iter, max_iter):
                    self.before_step()
                    self.run_step()
                    self.after_step()
                self.iter += 1
            finally:
                self.after_train()

    def run_step(self) -> None:
        """Draw batches, learn from them, note the losses.

        Raises:
            DivergedError: a loss or the gradient is no finite number; the weights are as before.
        """
        began = time.perf_counter()
        batches = [next(self._data_loader_iter) for _ in range(self.accumulate)]
        waited = time.perf_counter() - began
        self.optimizer.zero_grad()
        losses = self._backward(batches if self.prepare is None else self.prepare(batches))
        self._note(losses, waited)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.clip_norm or math.inf).item()
        self._check_norm(norm)
        self.after_backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _backward(self, batches: Iterable[Any]) -> dict[str, Tensor]:
        """Gradients of the mean over the batches -> that mean, term by term."""
        total: dict[str, Tensor] = {}
        batches = list(batches)
        for number, batch in enumerate(batches, start=1):
            with self._without_sync(number < len(batches)):
                losses = self.model(batch)
                self.scaler.scale(sum(losses.values()) / len(batches)).backward()
            for name, loss in losses.items():
                total[name] = total.get(name, 0) + loss.detach() / len(batches)
        return total

    def _without_sync(self, without: bool) -> AbstractContextManager:
        if without and isinstance(self.model, DistributedDataParallel):
            return self.model.no_sync()
        return nullcontext()

    def _note(self, losses: dict[str, Tensor], waited: float) -> None:
        own = torch.stack([loss.float() for loss in losses.values()]).tolist()
        values = dict(zip(losses, mean_over_processes(own), strict=True))
        strange = [
            f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)
        ]
        if strange:
            raise DivergedError(f"the loss diverged at iteration {self.iter}: {strange[0]}")
        self.storage.put_scalar("data_time", waited)
        self.storage.put_scalar("total_loss", sum(values.values()))
        self.storage.put_scalars(**values)

    def _check_norm(self, norm: float) -> None:
        """The scaler skips steps of infinite gradients, as long as a smaller scale can help."""
        helps = self.scaler.is_enabled() and self.scaler.get_scale() > 1
        if math.isfinite(norm):
            self.storage.put_scalar("gradient_norm", norm)
        elif not helps:
            raise DivergedError(
                f"the gradient diverged at iteration {self.iter}: its norm is {norm}, "
                f"the loss {self.storage.latest()['total_loss'][0]:.4g}"
            )
