"""The saved states of a training, from which --resume goes on."""

from __future__ import annotations

import io
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase

from proposal.checkpoint_files import CONFIG_NAME, WEIGHTS_NAME
from proposal.training_metrics import restore_snapshot, snapshot
from proposal.whole_file import write_whole

logger = logging.getLogger(__name__)
STATE_NAME = "training_state.pth"  # beside the model, in each folder of STATES
STATES = "checkpoints"  # the last K saves of a run, a folder each
BEST = "best"  # the checkpoint folder of the model that validated best


class SaveStates(HookBase):
    """Saves the model with all that --resume needs; keeps the last K saves, and the best model.

    A save is the folder ``RUN/checkpoints/iteration_0000500``, which appears whole; the run folder
    itself is a checkpoint folder that holds the newest save's model.
    """

    def __init__(
        self,
        folder: Path,
        parts: Mapping[str, Any],
        save_model: Callable[[Path, int], None],
        *,
        minutes: float,
        iterations: int = 0,
        keep_last: int = 2,
    ) -> None:
        """``parts``: objects with state dicts. ``save_model``: writes the checkpoint's two files
        into a folder, and is told the iterations done. ``minutes``, ``iterations``: between two
        saves, whichever comes first; 0 iterations = by the clock alone."""
        self.folder = folder
        self.parts = parts
        self.save_model = save_model
        self.seconds = minutes * 60
        self.iterations = iterations
        self.keep_last = keep_last
        self.saved_at = time.monotonic()
        self.done = -1  # iterations in the newest save
        self.scalars: dict[str, Any] = {}  # of the state that was resumed

    def before_train(self) -> None:
        """Start the clock; the storage of a resumed run remembers what it knew."""
        for torn in (self.folder / STATES).glob(".*.tmp"):  # of a save that was killed
            shutil.rmtree(torn, ignore_errors=True)
        self.saved_at = time.monotonic()
        self.done = self.trainer.start_iter
        restore_snapshot(self.trainer.storage, self.scalars)

    def after_step(self) -> None:
        """Save if it is time, or the end."""
        done = self.trainer.iter + 1
        by_count = self.iterations and done % self.iterations == 0
        by_clock = time.monotonic() - self.saved_at >= self.seconds
        if by_count or by_clock or done == self.trainer.max_iter:
            self.save(done)

    def save(self, done: int) -> None:
        """Save after ``done`` iterations, if that is news."""
        if done <= self.done:
            return
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state |= {"iterations_done": done, "scalars": snapshot(self.trainer.storage)}
        place = self.folder / STATES / f"iteration_{done:07d}"
        draft = place.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            self.save_model(draft, done)
            write_state(draft / STATE_NAME, state)
            shutil.rmtree(place, ignore_errors=True)
            draft.rename(place)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        for name in (WEIGHTS_NAME, CONFIG_NAME):
            link_whole(place / name, self.folder / name)
        for older in saved_folders(self.folder)[self.keep_last :]:
            shutil.rmtree(older)
        self.saved_at = time.monotonic()
        self.done = done
        logger.info("saved after %d iterations in %s", done, self.folder)


def link_whole(source: Path, target: Path) -> None:
    """Let ``target`` be ``source``'s content from one moment to the next, without a copy if it can.

    A later change of one is no change of the other, as files here are replaced, never written to.
    """
    draft = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        try:
            os.link(source, draft)
        except OSError:  # a file system without links
            shutil.copyfile(source, draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def saved_folders(folder: Path) -> list[Path]:
    """A run's saves, the newest first."""
    return sorted((folder / STATES).glob("iteration_*"), reverse=True)


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers, texts and containers of them."""
    content = io.BytesIO()
    torch.save(dict(state), content)
    write_whole(path, content.getvalue())


def read_state(path: Path) -> dict[str, Any]:
    """Read what ``write_state`` wrote; nothing in the file is executed.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torn bytes can fail in any way
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path} is damaged: {reason}") from error


def newest_state(folder: Path) -> tuple[dict[str, Any], Path] | None:
    """A run's newest state that can be read, with its path; nothing if none was saved.

    Raises:
        ValueError: there are states, and all of them are damaged.
    """
    damaged: list[ValueError] = []
    for place in saved_folders(folder):
        try:
            return read_state(place / STATE_NAME), place / STATE_NAME
        except ValueError as error:
            logger.warning("%s; trying the save before", error)
            damaged.append(error)
    if damaged:
        raise ValueError(f"{damaged[0]}: start anew in another --output") from damaged[0]
    return None


def restore(state: Mapping[str, Any], parts: Mapping[str, Any], where: Path) -> int:
    """Put a state back into its parts -> the iterations done.

    Raises:
        ValueError: the state belongs to another configuration.
    """
    try:
        for name, part in parts.items():
            part.load_state_dict(state[name])
        return int(state["iterations_done"])
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{where} was written by a training with another configuration: {reason}"
        ) from error
