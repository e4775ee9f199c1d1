"""A training of either stage from its first step to its last: everything but what is learned."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from proposal.training_curves import draw_curves
from proposal.training_hooks import (
    AverageWeights,
    KeepBest,
    SeedSteps,
    StepSchedule,
    StopOnSignal,
    Stopped,
)
from proposal.training_loop import DivergedError, Trainer, check_precision
from proposal.training_metrics import TellProgress
from proposal.training_processes import spread
from proposal.training_record import check_same_run, write_record
from proposal.training_state import BEST, SaveStates, newest_state, restore, saved_folders

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopConfig:
    """What the loop of either stage can be told.

    Raises:
        ValueError: a number is out of its range.
    """

    iterations: int
    batch_size: int  # of one step over all processes, accumulated batches included
    precision: str = "float32"  # or bfloat16, float16: see training_loop.PRECISIONS
    accumulate: int = 1  # batches a step is split into, one after the other
    clip_norm: float = 0.0  # of the whole model's gradient; 0 = not clipped
    average: float = 0.0  # decay of the averaged weights that are kept; 0 = the last ones are
    seed: int = 0
    log_iterations: int = 20
    checkpoint_minutes: float = 10.0
    checkpoint_iterations: int = 0  # 0 = by the clock alone
    keep_last: int = 2
    evaluate_iterations: int = 0  # 0 = nothing is validated during the training
    best_metric: str = ""  # of what is validated; the model with the highest is kept, too

    def __post_init__(self) -> None:
        check_precision(self.precision)
        for name in ("batch_size", "accumulate", "log_iterations", "keep_last"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.average < 1:
            raise ValueError(f"the decay of averaged weights must be in [0, 1), got {self.average}")

    def batch_of_process(self) -> int:
        """How many of a step's images go through this process's model at a time.

        Raises:
            ValueError: the step cannot be shared out evenly.
        """
        shares = comm.get_world_size() * self.accumulate
        if self.batch_size % shares:
            raise ValueError(
                f"train.batch_size must be a multiple of {shares} ({comm.get_world_size()} "
                f"processes x train.accumulate {self.accumulate}), got {self.batch_size}"
            )
        return self.batch_size // shares


@dataclass(frozen=True)
class Learner:
    """What is trained."""

    step: nn.Module  # a batch -> the weighted terms of its loss, by name
    model: nn.Module  # the part of it that is kept
    optimizer: Optimizer
    schedule: LRScheduler


@dataclass(frozen=True)
class Purpose:
    """What a training is given and leaves; ``folder`` is the run's."""

    folder: Path
    record: Mapping[str, Any]  # as training_record.make_record makes it
    may_change: frozenset[str]  # settings that a resumed run may have other values of
    batches: Callable[[int], Iterable[Any]]  # from that iteration on, this process's share
    save_model: Callable[[Path, nn.Module, int], None]  # into a folder, after these iterations
    validate: Callable[[nn.Module], dict[str, float]] | None = (
        None  # percent, the higher the better
    )
    prepare: Callable[[list[Any]], list[Any]] | None = None  # see training_loop.Trainer
    extra_hooks: tuple[HookBase, ...] = ()  # after the optimizer's step, before any saving


def run_training(
    learner: Learner, loop: LoopConfig, purpose: Purpose, *, resume: bool = False
) -> nn.Module:
    """Train, or go on training -> the model that is kept: the averaged or the last one.

    Leaves in the folder: the newest model as a checkpoint, ``checkpoints/`` (the last saves, from
    which it can be resumed), ``best/``, ``run.json``, ``metrics.jsonl``, TensorBoard's events and
    ``curves.png``. Random numbers depend on seed, iteration and process alone.

    Raises:
        ValueError: the folder holds another training, or what it holds cannot be resumed.
        DivergedError: the loss is no number any more; the last save is as it was.
        Stopped: by the user; all is saved.
    """
    loop.batch_of_process()  # refuses what cannot be shared out
    trainer = Trainer(
        spread(learner.step),
        learner.optimizer,
        precision=loop.precision,
        accumulate=loop.accumulate,
        clip_norm=loop.clip_norm,
        prepare=purpose.prepare,
    )
    average = AverageWeights(learner.model, loop.average) if loop.average else None
    kept = average.average if average else learner.model
    saver, best = _savers(kept, loop, purpose)
    saver.parts = {
        "model": learner.model,
        "optimizer": learner.optimizer,
        "schedule": learner.schedule,
        "scaler": trainer.scaler,
        **({"average": average.average} if average else {}),
        **({"best": best} if best else {}),
    }
    start = _start(saver, purpose, resume)
    trainer.data_loader = purpose.batches(start)
    moving = [StepSchedule(learner.schedule), average, *purpose.extra_hooks, best]
    trainer.register_hooks([SeedSteps(loop.seed), hooks.IterationTimer(warmup_iter=1), *moving])
    if comm.is_main_process():
        purpose.folder.mkdir(parents=True, exist_ok=True)
        write_record(purpose.folder, purpose.record)
        told = TellProgress(loop.log_iterations, loop.batch_size, purpose.folder)
        trainer.register_hooks([told, saver])
    trainer.register_hooks([StopOnSignal()])
    _train(trainer, start, loop.iterations, saver)
    return kept


def _savers(
    kept: nn.Module, loop: LoopConfig, purpose: Purpose
) -> tuple[SaveStates, KeepBest | None]:
    saver = SaveStates(
        purpose.folder,
        {},
        lambda place, done: purpose.save_model(place, kept, done),
        minutes=loop.checkpoint_minutes,
        iterations=loop.checkpoint_iterations,
        keep_last=loop.keep_last,
    )
    if purpose.validate is None or not loop.evaluate_iterations:
        return saver, None
    best = KeepBest(
        loop.evaluate_iterations,
        loop.best_metric,
        lambda: purpose.validate(kept),
        lambda done: purpose.save_model(purpose.folder / BEST, kept, done),
    )
    return saver, best


def _start(saver: SaveStates, purpose: Purpose, resume: bool) -> int:
    """Restore the newest save if asked to -> the iterations done."""
    folder = purpose.folder
    if not resume:
        if saved := saved_folders(folder):
            raise ValueError(
                f"{folder} holds a training ({saved[0].name.replace('_', ' ')}): go on with "
                "--resume, or choose another --output"
            )
        return 0
    found = newest_state(folder)
    if found is None:
        logger.info("nothing was saved in %s so far: starting anew", folder)
        return 0
    check_same_run(folder, purpose.record, purpose.may_change)
    state, path = found
    start = restore(state, saver.parts, path)
    saver.scalars = state["scalars"]
    logger.info("resuming after %d iterations", start)
    return start


def _train(trainer: Trainer, start: int, iterations: int, saver: SaveStates) -> None:
    main = comm.is_main_process()
    try:
        trainer.train(start, iterations)
    except Stopped:
        if main:
            saver.save(trainer.iter + 1)
        raise
    except DivergedError as error:
        kept = f"the checkpoint after {saver.done} iterations is kept in {saver.folder}"
        kept = kept if saver.done > 0 else "nothing was saved before"
        raise DivergedError(
            f"{error}; {kept}: lower the learning rate, or use train.precision=float32"
        ) from error
    finally:
        if main:
            draw_curves(saver.folder)
