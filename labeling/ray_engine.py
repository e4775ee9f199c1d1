"""Shards labelled by the tasks of a Ray cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

from labeling.shards import LabeledShard, Shard, Tick
from labeling.worker import Work, Worker

try:
    import ray
except ModuleNotFoundError as missing:
    raise ValueError("--engine ray needs Ray: run pip install 'maskclip[ray]'") from missing

ATTEMPTS = 5  # at a shard whose worker dies
PATIENCE = 20  # seconds for the cluster to answer
ADDRESS = "RAY_ADDRESS"  # environment variable: the cluster; without it Ray runs on this machine
OBJECTS = 256 << 20  # bytes of a local Ray's store: shards on their way, a megabyte each


class RayEngine:
    """A task for each shard; a worker process keeps its model between them.

    Where a worker dies, Ray gives its shard to another one. Photos and the model must be where
    they are for the process that asks; the pairs are written by that process alone.
    """

    def __init__(self, work: Work, device: str, workers: int | None, cores: int) -> None:
        """What to do; ``auto``, ``cpu`` or ``cuda``; shards at a time, by default as many as fit.

        ``cores`` are this machine's, for a Ray that is started here.

        Raises:
            OSError: the cluster that ``RAY_ADDRESS`` names does not answer.
            ValueError: the cluster has no such device.
        """
        self.work, self.threads = work, work.config.threads
        self._started = not ray.is_initialized()
        if self._started:
            _connect(workers * self.threads if workers else max(cores, self.threads))
        resources = ray.cluster_resources()
        gpus, cpus = resources.get("GPU", 0), resources.get("CPU", 0)
        self.device = _choose_kind(device, gpus)
        fitting = gpus if self.device == "cuda" else cpus // self.threads
        self.workers = workers or max(1, int(fitting))
        self.gpus = min(1.0, gpus / self.workers) if self.device == "cuda" else 0

    def label(self, shards: Sequence[Shard], tick: Tick) -> Iterator[LabeledShard]:
        """Shards -> the same, labelled, in the order in which they are done.

        Raises:
            RuntimeError: a shard cannot be labelled; the message says why.
        """
        waiting = iter(shards)
        task = _label_remotely.options(num_cpus=self.threads, num_gpus=self.gpus)
        work, place = ray.put(self.work), str(Path.cwd())
        begun: list[ray.ObjectRef] = []
        try:
            while True:
                # One more than can be done at a time, so that nobody waits for this process
                more = self.workers + 1 - len(begun)
                begun += [
                    task.remote(work, self.device, place, shard) for shard in islice(waiting, more)
                ]
                if not begun:
                    break
                ready, begun = ray.wait(begun)
                done = _fetch(ready[0])
                tick(done.notes.images, done.notes.pairs)
                yield done
        finally:
            for reference in begun:
                ray.cancel(reference, force=True)

    def close(self) -> None:
        """End the Ray that was started for this."""
        if self._started:
            ray.shutdown()


def _choose_kind(device: str, gpus: float) -> str:
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"with Ray device must be auto, cpu or cuda, got {device!r}")
    if device == "cuda" and not gpus:
        raise ValueError("the Ray cluster has no GPU: choose --device cpu")
    if device == "auto":
        return "cuda" if gpus else "cpu"
    return device


@ray.remote(max_retries=ATTEMPTS)
def _label_remotely(work: Work, device: str, place: str, shard: Shard) -> LabeledShard:
    with contextlib.suppress(OSError):
        os.chdir(place)  # which a model's path may start from
    return _worker(work, device).label(shard, _tell_nobody)


def _tell_nobody(photos: int, pairs: int) -> None:
    del photos, pairs


@lru_cache(maxsize=1)
def _worker(work: Work, device: str) -> Worker:
    return Worker(work, device)


def _fetch(reference: ray.ObjectRef) -> LabeledShard:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise RuntimeError(f"a Ray worker failed: {_sentence(error.cause)}") from error
    except ray.exceptions.RayError as error:
        raise RuntimeError(
            f"a shard's Ray worker died {ATTEMPTS + 1} times ({type(error).__name__}): "
            "if memory is short, give fewer --workers"
        ) from error


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _connect(cpus: int) -> None:
    address = os.environ.get(ADDRESS, "")
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address in ("", "local"):
        local = {"num_cpus": cpus, "object_store_memory": OBJECTS, "include_dashboard": False}
        # Workers are the work itself, and without memory for them the run is to end with a word
        local["_system_config"] = {"worker_niceness": 0, "task_oom_retries": ATTEMPTS}
        ray.init("local", **local, **quiet)
        return
    try:
        place = re.fullmatch(r"(?:ray://)?([^:/]+):(\d+)", address)
        if place:  # Ray itself tries for minutes
            socket.create_connection((place[1], int(place[2])), PATIENCE).close()
        ray.init(address, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise OSError(
            f"no Ray cluster answers at {ADDRESS}={address} ({_sentence(error)}): start it with "
            "ray start --head, give its RAY_AUTH_TOKEN if it has one, or unset the address"
        ) from error
