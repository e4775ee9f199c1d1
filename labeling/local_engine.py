"""Shards labelled by the processes of one machine."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any

from labeling.labeler import Labeler
from labeling.shards import LabeledShard, Shard, Tick
from labeling.worker import Work, Worker

logger = logging.getLogger(__name__)
ATTEMPTS = 3  # at a shard whose worker dies
GLANCE = 0.3  # seconds between looks at how far the workers are
SPAWN = multiprocessing.get_context("spawn")  # a forked process may not use CUDA


class OneProcess:
    """Labels in the process that asks for it."""

    def __init__(self, work: Work, device: str, labeler: Labeler) -> None:
        """What to do; on which device; what does it, on the CPU."""
        self.work, self.device = work, device
        self.labeler = labeler if device == "cpu" else None

    def label(self, shards: Sequence[Shard], tick: Tick) -> Iterator[LabeledShard]:
        """Shards -> the same, labelled, in their order."""
        worker = Worker(self.work, self.device, self.labeler)
        for shard in shards:
            yield worker.label(shard, tick)

    def close(self) -> None:
        """There is nothing to end."""


class LocalEngine:
    """One process for each device that is named, each with its own model.

    A worker that dies (killed, out of memory) costs the shard it was at, which is given to its
    successor. Workers end with the process that started them, however that ends.
    """

    def __init__(self, work: Work, devices: list[str]) -> None:
        """What to do; a device for each worker."""
        self.work = work
        self.devices = devices
        self.device = devices[0]

    def label(self, shards: Sequence[Shard], tick: Tick) -> Iterator[LabeledShard]:
        """Shards -> the same, labelled, in the order in which they are done.

        Raises:
            RuntimeError: a shard cannot be labelled; the message says why.
        """
        waiting = iter(shards)
        slots = [_Slot(self.work, device) for device in self.devices[: len(shards)]]
        try:
            for slot in slots:
                slot.give(next(waiting, None))
            while any(slot.shard for slot in slots):
                busy = [slot for slot in slots if slot.shard]
                connection.wait([slot.pipe for slot in busy], GLANCE)
                for slot in busy:
                    tick(*slot.progress())
                    done = slot.take()
                    if done is not None:
                        tick(*slot.progress(done))
                        slot.give(next(waiting, None))
                        yield done
        finally:
            for slot in slots:
                slot.stop()

    def close(self) -> None:
        """There is nothing to end: the workers end with the shards."""


class _Slot:
    """A worker process, or its successors, and the shard it is at."""

    def __init__(self, work: Work, device: str) -> None:
        self.work, self.device = work, device
        self.shard: Shard | None = None
        self._attempts = 0
        self._seen = [0, 0]
        self._process: Any = None

    def give(self, shard: Shard | None) -> None:
        """Begin a shard; None where there are no more."""
        self.shard, self._attempts, self._seen = shard, 0, [0, 0]
        if shard is not None:
            self._begin()

    def progress(self, done: LabeledShard | None = None) -> tuple[int, int]:
        """Photos and pairs since the last look, at the shard's end those that are left."""
        now = [done.notes.images, done.notes.pairs] if done else list(self._counts)
        more = [max(0, new - old) for new, old in zip(now, self._seen, strict=True)]
        self._seen = [old + plus for old, plus in zip(self._seen, more, strict=True)]
        return more[0], more[1]

    def take(self) -> LabeledShard | None:
        """The shard, if it is done; a worker that died is followed by another one."""
        try:
            if not self.pipe.poll():
                return None
            answer = self.pipe.recv()
        except (EOFError, OSError):
            self._replace()
            return None
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer

    def stop(self) -> None:
        """End the process at once; what it was at is lost."""
        if self._process is not None:
            self._process.terminate()
            self._process.join()
            self.pipe.close()
            self._process = None

    def _begin(self) -> None:
        if self._process is None:
            self._start()
        self._counts[:] = [0, 0]
        self.pipe.send(self.shard)

    def _start(self) -> None:
        self._counts = SPAWN.RawArray("q", 2)
        self.pipe, other = SPAWN.Pipe()
        arguments = (other, self._counts, self.work, self.device)
        self._process = SPAWN.Process(target=_serve, args=arguments, daemon=True)
        with _ctrl_c_ignored():
            self._process.start()
        other.close()

    def _replace(self) -> None:
        self._process.join()
        code = self._process.exitcode
        how = f"signal {-code}" if code and code < 0 else f"exit code {code}"
        self.stop()
        self._attempts += 1
        first = self.shard.entries[0].image if self.shard.entries else "-"
        if self._attempts == ATTEMPTS:
            raise RuntimeError(
                f"the worker at shard {self.shard.index} (from {first} on) died {ATTEMPTS} times, "
                f"last by {how}: if memory is short, give fewer --workers"
            )
        logger.warning("a worker died by %s; its shard is begun again", how)
        self._begin()


def _serve(pipe: Any, counts: Any, work: Work, device: str) -> None:
    """The worker process: shards in, labelled shards out; a text says what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the first process's to act on
    threading.Thread(target=_die_with_parent, daemon=True).start()

    def tick(photos: int, pairs: int) -> None:
        counts[:] = [counts[0] + photos, counts[1] + pairs]

    try:
        worker = None
        while True:
            shard = pipe.recv()
            worker = worker or Worker(work, device)
            pipe.send(worker.label(shard, tick))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        logger.debug(traceback.format_exc())
        pipe.send(" ".join(str(error).split()) or f"out of resources ({type(error).__name__})")


def _die_with_parent() -> None:
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Processes that are started inside are deaf to Ctrl-C from their first moment on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
