"""Worker processes: they may die, and die with who started them."""

import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from labeling.captions import read_captions
from labeling.label_config import LabelConfig, fingerprint_model
from labeling.local_engine import ATTEMPTS, LocalEngine, OneProcess
from labeling.shards import cut
from labeling.worker import Work

CAPTIONED = runpy.run_path(str(Path(__file__).with_name("captioned.py")))


@pytest.fixture(scope="module")
def work(tmp_path_factory, tiny_checkpoint) -> Work:
    images, _ = CAPTIONED["write_captioned"](tmp_path_factory.mktemp("captioned"), 12)
    config = LabelConfig(str(tiny_checkpoint))
    return Work(config, images, fingerprint_model(config.load_segmentor("cpu")))


@pytest.fixture(scope="module")
def shards(work) -> list:
    return list(cut(read_captions(work.images.parent / "captions.jsonl"), 3))


def no_tick(*_) -> None:
    pass


@pytest.mark.slow
def test_a_killed_worker_costs_no_shard(work, shards, caplog):
    engine, told, done = LocalEngine(work, ["cpu"]), [], []
    labeler = work.config.build_labeler(work.config.load_segmentor("cpu"))
    expected = list(OneProcess(work, "cpu", labeler).label(shards, no_tick))
    for shard in engine.label(shards, lambda *more: told.append(more)):
        done.append(shard)
        if len(done) == 1:
            (worker,) = children()
            os.kill(worker, signal.SIGKILL)
    assert done == expected
    assert "a worker died by signal 9" in caplog.text
    assert not children()
    images, pairs = (sum(counts) for counts in zip(*told, strict=True))
    assert (images, pairs) == (12, sum(shard.notes.pairs for shard in expected))


def test_a_shard_that_kills_every_worker_is_told(work, shards):
    stop = threading.Event()

    def kill_all() -> None:
        while not stop.wait(0.05):
            for worker in children():
                os.kill(worker, signal.SIGKILL)

    killer = threading.Thread(target=kill_all)
    killer.start()
    try:
        with pytest.raises(RuntimeError, match=f"shard 0 .from 000.png on. died {ATTEMPTS} times"):
            list(LocalEngine(work, ["cpu"]).label(shards, no_tick))
    finally:
        stop.set()
        killer.join()


def test_a_worker_with_another_model_is_told(work, shards):
    other = Work(work.config, work.images, "0" * 64)
    with pytest.raises(RuntimeError, match="has other weights for this worker"):
        list(LocalEngine(other, ["cpu"]).label(shards, no_tick))


START = """
import sys, time
from labeling import local_engine
from labeling.shards import Shard
if __name__ == "__main__":
    slot = local_engine._Slot(None, "cpu")
    slot.shard = Shard(0, ())
    slot._start()
    print(slot._process.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them(tmp_path):
    script = tmp_path / "start.py"
    script.write_text(START)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        wait_until(lambda: b"spawn_main" in command_of(worker))
        time.sleep(1)
        parent.kill()
    wait_until(lambda: not command_of(worker))


def children() -> list[int]:
    """Worker processes of this one."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        found += [int(pid) for pid in (task / "children").read_text().split()]
    return [pid for pid in found if b"spawn_main" in command_of(pid)]


def command_of(pid: int) -> bytes:
    """Empty for one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def wait_until(true) -> None:
    for _ in range(600):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("waited for a minute")
