"""A labelling run from captioned photos to a folder of pairs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from tqdm import tqdm

from labeling.captions import CaptionedImage, read_captions
from labeling.contact_sheet import write_contact_sheet
from labeling.export import export_pairs
from labeling.label_config import LabelConfig, fingerprint_captions
from labeling.label_folder import SKIPPED, LabelFolder, locked
from labeling.labeler import Labeler
from labeling.local_engine import LocalEngine, OneProcess
from labeling.pair_summary import table, write_pair_summary
from labeling.shards import LabeledShard, Shard, Tick, cut
from labeling.worker import Work
from maskclip.pairs import SUMMARY
from maskclip.prediction import check_writable, choose_device

ENGINES = ("local", "ray")
SHEET = "pairs.html"
PROBES = 1000  # photos that are looked for before anything is done


class Engine(Protocol):
    """Whatever labels shards."""

    device: str  # its kind comes first: cpu, mps, cuda or cuda:0

    def label(self, shards: Sequence[Shard], tick: Tick) -> Iterator[LabeledShard]:
        """Shards -> the same, labelled, in any order; ``tick`` is told of photos and pairs."""
        ...

    def close(self) -> None:
        """End what was started for it."""
        ...


@dataclass(frozen=True)
class Job:
    """What to label, where to write it, who does it; the rows depend on ``config`` and the data.

    Raises:
        ValueError: an unknown engine, no workers.
    """

    images: Path
    captions: Path
    output: Path
    config: LabelConfig = field(default_factory=LabelConfig)
    engine: str = "local"
    workers: int | None = None  # by default one for each GPU, or for each CPU core
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ValueError(f"engine must be {' or '.join(ENGINES)}, got {self.engine!r}")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")

    def read_entries(self) -> list[CaptionedImage]:
        """The photos with the captions that are wanted.

        Raises:
            FileNotFoundError: a file or folder is missing, or none of the photos is there.
            ValueError: the captions are damaged.
        """
        if not self.images.is_dir():
            raise FileNotFoundError(
                f"there is no folder {self.images}: give the photos' as --images"
            )
        entries = self.config.choose(read_captions(self.captions))
        probes = entries[:: max(1, len(entries) // PROBES)]
        if entries and not any((self.images / one.image).exists() for one in probes):
            raise FileNotFoundError(
                f"none of the photos that {self.captions} names, such as {entries[0].image}, is in "
                f"{self.images}: give the folder that these paths are relative to as --images"
            )
        return entries


def self_label(job: Job) -> dict[str, Any]:
    """Label what is not labelled yet -> the summary of the whole folder.

    Raises:
        FileNotFoundError, ValueError: an input, a setting or the model is wrong; nothing is
            written. Or the folder holds another run; it stays as it is.
        OSError: the output cannot be written, or another process writes into it.
        RuntimeError: a shard cannot be labelled. What is done stays; the same job goes on.
    """
    entries = job.read_entries()
    check_writable(job.output)
    shards = list(cut(entries, job.config.shard_size)) or [Shard(0, ())]
    engine, config = _prepare(job, len(shards))
    config["captions_sha256"] = fingerprint_captions(entries)
    with closing(engine), locked(job.output):
        folder = LabelFolder(job.output, len(shards))
        folder.begin(job.images, config, captions=str(job.captions.resolve()))
        missing = [shard for shard in shards if folder.is_missing(shard)]
        if missing:
            _label(engine, missing, folder, len(entries))
            folder.finish()
        if not (job.output / SUMMARY).exists():
            write_contact_sheet(job.output)
            return write_pair_summary(job.output, folder.totals())
    return read_summary(job.output)


def _prepare(job: Job, shards: int) -> tuple[Engine, dict[str, Any]]:
    """-> who labels, and all settings; whatever is wrong with a job shows here."""
    segmentor = job.config.load_segmentor("cpu")
    config = job.config.describe(segmentor)
    work = Work(job.config, job.images.resolve(), config["weights_sha256"])
    labeler = job.config.build_labeler(segmentor)
    engine = choose_engine(job, work, labeler, shards)
    return engine, config | {"device": engine.device.split(":")[0]}


def read_summary(output: Path) -> dict[str, Any]:
    """What a run that is complete found.

    Raises:
        ValueError: the run is not complete, or there is none.
    """
    path = output / SUMMARY
    if not path.is_file():
        raise ValueError(f"{output} holds no finished run (no {SUMMARY}): finish it first")
    return json.loads(path.read_text(encoding="utf-8"))


def export_finished(output: Path, form: str) -> Path:
    """Write a complete run's pairs as ``coco`` or ``crops`` -> the file.

    Raises:
        ValueError, FileNotFoundError: the run is not complete, or as ``export_pairs``.
    """
    read_summary(output)
    return export_pairs(output, form)


def tell(summary: dict[str, Any], output: Path) -> str:
    """A summary for people, and where to look."""
    lines = [table(summary)]
    if summary["skipped"]:
        lines.append(f"{summary['skipped']:,} photos were left out, {output / SKIPPED} says why")
    if (output / SHEET).exists():
        lines.append(f"look at {output / SHEET}")
    return "\n".join(lines)


def choose_devices(device: str, workers: int | None, threads: int) -> list[str]:
    """A device for each worker; ``cuda`` stands for all GPUs there are.

    Raises:
        ValueError: this machine has no such device.
    """
    kind = choose_device(device)
    if kind == "cuda":
        there = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    else:
        there = [kind]
    alone = max(1, _cores() // threads) if kind == "cpu" else len(there)
    return [there[index % len(there)] for index in range(workers or alone)]


def choose_engine(job: Job, work: Work, labeler: Labeler, shards: int) -> Engine:
    """The engine of a job; one local worker is this process, with the model it has already.

    Raises:
        ValueError: Ray is not installed, there is no such device.
        OSError: no Ray cluster answers.
    """
    if job.engine == "ray":
        from labeling.ray_engine import RayEngine  # here, as Ray is an extra

        return RayEngine(work, job.device, job.workers, _cores())
    devices = choose_devices(job.device, job.workers, job.config.threads)[:shards]
    if len(devices) == 1:
        return OneProcess(work, devices[0], labeler)
    return LocalEngine(work, devices)


def _label(engine: Engine, shards: list[Shard], folder: LabelFolder, total: int) -> None:
    """Label shards with a progress bar: photos a second, pairs, the time that is left."""
    before = folder.totals()
    pace = 0.3 if sys.stderr.isatty() else 30  # seconds between lines
    with tqdm(total=total, initial=before["images"], unit=" images", mininterval=pace) as bar:
        pairs = before["pairs"]

        def tick(images: int, more: int) -> None:
            nonlocal pairs
            pairs += more
            bar.set_postfix_str(f"{pairs:,} pairs", refresh=False)
            bar.update(images)

        with closing(engine.label(shards, tick)) as labeled:
            for done in labeled:
                folder.store(done)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
