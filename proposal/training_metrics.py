"""How a training tells what it does: lines of progress, metrics.jsonl, TensorBoard."""

from __future__ import annotations

import json
import logging
import math
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.utils.events import (
    EventStorage,
    EventWriter,
    TensorboardXWriter,
    get_event_storage,
)

from proposal.peak_memory import peak_memory
from proposal.whole_file import write_whole

logger = logging.getLogger(__name__)
METRICS_NAME = "metrics.jsonl"
WINDOW = 20  # iterations whose median is told of what jumps from step to step
AUXILIARY = re.compile(r"loss\w*_\d+")  # losses of earlier layers: in the file, not on the screen


class TellProgress(HookBase):
    """Writes to all writers every so many iterations, and after the last one."""

    def __init__(self, period: int, batch_size: int, folder: Path) -> None:
        """``batch_size``: of a step over all processes; ``folder``: of the run."""
        self.period = period
        self.batch_size = batch_size
        self.folder = folder
        self.writers: list[EventWriter] = []

    def before_train(self) -> None:
        """Open the files; lines that a resumed run will write again are taken away."""
        start = self.trainer.start_iter
        trim_metrics(self.folder / METRICS_NAME, start)
        purge = {"purge_step": start} if start else {}
        self.writers = [
            ProgressPrinter(self.trainer.max_iter),
            MetricsFile(self.folder / METRICS_NAME),
            TensorboardXWriter(str(self.folder), WINDOW, **purge),
        ]

    def after_step(self) -> None:
        """Write if it is time."""
        done = self.trainer.iter + 1
        if done % self.period and done != self.trainer.max_iter:
            return
        note_speed(self.trainer.storage, self.batch_size, self.trainer.max_iter - done)
        for writer in self.writers:
            writer.write()

    def after_train(self) -> None:
        """Close the files."""
        for writer in self.writers:
            writer.close()


class ProgressPrinter(EventWriter):
    """One line: where the training is, how long it will take, how well it does."""

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations

    def write(self) -> None:
        """Log the line."""
        storage = get_event_storage()
        values = {k: v for k, (v, _) in storage.latest_with_smoothing_hint(WINDOW).items()}
        terms = [
            f"{name}: {value:.4g}"
            for name, value in values.items()
            if "loss" in name and not AUXILIARY.fullmatch(name)
        ]
        left = str(timedelta(seconds=int(values.get("eta_seconds", 0))))
        logger.info(
            "iter: %d/%d  eta: %s  %s  lr: %.3g  images/s: %.3g  memory: %.0f MiB",
            storage.iter + 1,
            self.iterations,
            left,
            "  ".join(terms),
            values.get("lr", float("nan")),
            values.get("images_per_second", float("nan")),
            values["memory_mib"],
        )


class MetricsFile(EventWriter):
    """metrics.jsonl: an object a line, with everything that is new since the line before."""

    def __init__(self, path: Path) -> None:
        """``path``: lines that are there stay."""
        lines = read_metrics(path)
        self.last = lines[-1]["iteration"] if lines else -1
        self.path = path

    def write(self) -> None:
        """Append a line."""
        storage = get_event_storage()
        values = storage.latest_with_smoothing_hint(WINDOW)
        new = {name: _number(value) for name, (value, at) in values.items() if at > self.last}
        line = json.dumps({"iteration": storage.iter, **new}, sort_keys=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
        self.last = storage.iter


def note_speed(storage: EventStorage, batch_size: int, left: int) -> None:
    """Put images a second, seconds left and the memory's peak among the scalars."""
    if "time" in storage.histories():
        seconds = storage.history("time").median(WINDOW)
        storage.put_scalar("images_per_second", batch_size / seconds, smoothing_hint=False)
        storage.put_scalar("eta_seconds", seconds * left, smoothing_hint=False)
    storage.put_scalar("memory_mib", peak_memory_mib(), smoothing_hint=False)


def peak_memory_mib() -> float:
    """The most that this process has held: on its GPU, or in main memory where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return peak_memory()


def trim_metrics(path: Path, start: int) -> None:
    """Take lines of iteration ``start`` and later (of a run that was killed) out of the file."""
    if not path.is_file():
        return
    kept = [line for line in read_metrics(path) if line["iteration"] < start]
    text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in kept)
    write_whole(path, text.encode())


def snapshot(storage: EventStorage) -> dict[str, Any]:
    """The newest scalars, ready to be saved: a resumed run goes on with the same medians."""
    hints = storage.smoothing_hints()
    return {
        name: {"values": [tuple(v) for v in history.values()[-WINDOW:]], "smooth": hints[name]}
        for name, history in storage.histories().items()
    }


def restore_snapshot(storage: EventStorage, saved: dict[str, Any]) -> None:
    """Put the scalars of a ``snapshot`` into an empty storage."""
    for name, content in saved.items():
        for value, iteration in content["values"]:
            storage.put_scalar(
                name, value, smoothing_hint=content["smooth"], cur_iter=int(iteration)
            )


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, each a mapping with its ``iteration``.

    The last one may have been cut off when the run was killed, and is then left out.
    """
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def _number(value: float) -> float | None:
    """JSON has no NaN: what could not be measured is null."""
    return value if math.isfinite(value) else None
