"""Ray's tasks: the same output, also where a worker is killed. Real Ray, on this machine."""

import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from labeling.label_config import LabelConfig
from labeling.self_label import Job, self_label
from maskclip.pairs import read_pairs

CAPTIONED = runpy.run_path(str(Path(__file__).with_name("captioned.py")))
NO_RAY = """
import sys
sys.modules["ray"] = None
from labeling.self_label import choose_engine, Job
from pathlib import Path
try:
    choose_engine(Job(Path(), Path(), Path(), engine="ray"), None, None, 1)
except ValueError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory, tiny_checkpoint) -> Job:
    place = tmp_path_factory.mktemp("captioned")
    images, captions = CAPTIONED["write_captioned"](place, 24)
    (images / "007.png").unlink()
    config = LabelConfig(str(tiny_checkpoint), shard_size=3)
    return Job(images, captions, place / "local", config, workers=1, device="cpu")


def test_without_ray_one_sentence_says_what_to_install():
    told = subprocess.run([sys.executable, "-c", NO_RAY], capture_output=True, text=True)
    assert told.stdout == "--engine ray needs Ray: run pip install 'maskclip[ray]'\n", told.stderr


def test_a_cluster_that_does_not_answer_is_told(job, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(OSError, match="no Ray cluster answers at RAY_ADDRESS=127.0.0.1:1"):
        self_label(Job(job.images, job.captions, tmp_path / "out", job.config, "ray", 1, "cpu"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("device", "gpus", "kind"),
    [("auto", 0, "cpu"), ("auto", 2, "cuda"), ("cpu", 2, "cpu"), ("cuda", 1, "cuda")],
)
def test_auto_means_the_clusters_gpus(device, gpus, kind):
    pytest.importorskip("ray")
    from labeling.ray_engine import _choose_kind

    assert _choose_kind(device, gpus) == kind
    with pytest.raises(ValueError, match="the Ray cluster has no GPU"):
        _choose_kind("cuda", 0)
    with pytest.raises(ValueError, match="must be auto, cpu or cuda, got 'cuda:1'"):
        _choose_kind("cuda:1", 2)


@pytest.mark.slow
def test_a_killed_ray_worker_changes_nothing(job, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    self_label(job)
    killed = []

    def kill_a_worker() -> None:
        while not list(tmp_path.glob("out/*.parquet")):
            time.sleep(0.05)
        killed.extend(ray_workers()[:1])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_a_worker)
    killer.start()
    output = tmp_path / "out"
    self_label(Job(job.images, job.captions, output, job.config, "ray", 2, "cpu"))
    killer.join()
    assert killed
    assert read_pairs(output).equals(read_pairs(job.output))
    for path in job.output.iterdir():
        if path.name.startswith("pairs-") or path.name.endswith(".jsonl"):
            assert path.read_bytes() == (output / path.name).read_bytes(), path.name
    assert not ray_workers()


def ray_workers() -> list[int]:
    """Those at our task that descend from this process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            busy = b"ray::_label_remotely" in path.read_bytes()
        except OSError:
            continue
        if busy and os.getpid() in ancestors(int(path.parent.name)):
            found.append(int(path.parent.name))
    return found


def ancestors(pid: int) -> list[int]:
    line = []
    while pid > 1:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            break
        pid = int(stat.rpartition(")")[2].split()[1])
        line.append(pid)
    return line
