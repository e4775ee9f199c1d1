"""Measures many photos: in batches, in several processes, from where it was stopped."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from tqdm import tqdm

from maskclip.benchmarks.progress import ProgressFile
from maskclip.prediction import choose_device

Measure = Callable[[Sequence[Any]], list[Any]]


class Measurement(Protocol):
    """What is measured of every photo; goes to other processes."""

    def open(self, device: str) -> Measure:
        """Load what it takes -> a function from items to one record each, ready for JSON."""
        ...


@dataclass(frozen=True)
class Workforce:
    """Who measures. Batches are the same whatever the number of workers, and so are the records.

    Raises:
        ValueError: a number below 1, or this machine has no such device.
    """

    device: str = "auto"
    workers: int = 1  # processes: on GPUs spread over them, on the CPU over its cores
    batch_size: int = 4  # photos at a time

    def __post_init__(self) -> None:
        for name in ("workers", "batch_size"):
            if vars(self)[name] < 1:
                flag = name.replace("_", "-")
                raise ValueError(f"--{flag} must be at least 1, got {vars(self)[name]}")
        choose_device(self.device)

    def devices(self) -> list[str]:
        """The device of each worker."""
        device = choose_device(self.device)
        if device != "cuda":
            return [device] * self.workers
        return [f"cuda:{index % torch.cuda.device_count()}" for index in range(self.workers)]


def measure_all(
    measurement: Measurement,
    items: Sequence[Any],
    workforce: Workforce,
    *,
    progress: Path,
    facts: dict[str, Any],
) -> list[Any]:
    """A record for each item, in their order; ``facts`` say what the records depend on.

    ``progress`` keeps what is done until the caller removes it.

    Raises:
        ValueError, OSError: as the measurement.
        RuntimeError: a worker died.
    """
    size = workforce.batch_size
    batches = [items[start : start + size] for start in range(0, len(items), size)]
    done = ProgressFile(progress, {**facts, "batch_size": size})
    left = [index for index in range(len(batches)) if index not in done.batches]
    work = _alone if workforce.workers == 1 or len(left) < 2 else _together
    with tqdm(total=len(items), unit="photo", disable=None) as bar:
        bar.update(sum(len(batches[index]) for index in done.batches))
        if left:
            for index, records in work(measurement, batches, left, workforce):
                done.add(index, records)
                bar.update(len(batches[index]))
    return [record for index in range(len(batches)) for record in done.batches[index]]


def _alone(
    measurement: Measurement, batches: list[Sequence[Any]], left: list[int], workforce: Workforce
) -> Iterator[tuple[int, list[Any]]]:
    measure = measurement.open(workforce.devices()[0])
    for index in left:
        yield index, measure(batches[index])


def _together(
    measurement: Measurement, batches: list[Sequence[Any]], left: list[int], workforce: Workforce
) -> Iterator[tuple[int, list[Any]]]:
    context = multiprocessing.get_context("spawn")
    devices = context.Queue()
    for device in workforce.devices():
        devices.put(device)
    threads = max(1, (os.cpu_count() or 1) // workforce.workers)
    pool = ProcessPoolExecutor(
        workforce.workers, context, _start_worker, (measurement, devices, threads)
    )
    try:
        futures = {pool.submit(_measure_batch, batches[index]): index for index in left}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:  # also when the caller stops: what is under way ends, the rest is not begun
        pool.shutdown(wait=True, cancel_futures=True)


class _Worker:
    """What one process works with."""

    measurement: Measurement
    device: str
    measure: Measure | None = None


def _start_worker(measurement: Measurement, devices: Any, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the first process's business
    torch.set_num_threads(threads)
    _Worker.measurement, _Worker.device = measurement, devices.get()


def _measure_batch(items: Sequence[Any]) -> list[Any]:
    if _Worker.measure is None:  # here, as an error in the initializer would only break the pool
        _Worker.measure = _Worker.measurement.open(_Worker.device)
    return _Worker.measure(items)
