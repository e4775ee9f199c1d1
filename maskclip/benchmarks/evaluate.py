"""Measures a model as the flags of ``tools/evaluate.py`` say."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from maskclip.benchmarks.labelled_set import (
    LabelledSet,
    dataset_objects,
    open_dataset,
    open_folders,
    read_seen,
)
from maskclip.benchmarks.model import Model
from maskclip.benchmarks.objects import ObjectSet, ProposalRecall, RegionNaming
from maskclip.benchmarks.report import write_report
from maskclip.benchmarks.runner import Workforce, measure_all
from maskclip.benchmarks.search import parse_search
from maskclip.benchmarks.semantic import Semantic, add_up, best_variant
from maskclip.checkpoint_source import find_checkpoint, is_checkpoint
from maskclip.json_file import write_json
from maskclip.prediction import check_writable

logger = logging.getLogger(__name__)

TASKS = ("semantic", "proposals", "regions")
DATA = "data."  # settings of the labels, all others are the model's


@dataclass(frozen=True)
class EvaluationJob:
    """What to measure on what, checked as far as it can be without loading anything.

    Raises:
        ValueError: flags that do not go together.
    """

    model: Model
    output: Path  # metrics.json
    task: str = "semantic"
    dataset: str | None = None
    images: str | None = None
    labels: str | None = None
    classes_file: str | None = None
    instances: str | None = None
    ignore: int | None = None
    seen_file: str | None = None
    oracle: str | None = None
    search: tuple[str, ...] = ()
    data_root: Path = Path("data")
    report: Path | None = None
    limit: int | None = None
    settings: tuple[str, ...] = ()  # data.*
    workforce: Workforce = Workforce()

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"--task must be one of {', '.join(TASKS)}, got {self.task!r}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"--limit must be at least 1, got {self.limit}")
        needed = ("images", "labels", "classes_file")
        if self.task != "semantic":
            needed = ("images", "instances")
            self._refuse("labels", "classes_file", "ignore", "seen_file", "oracle", "report")
            if self.search:
                raise ValueError("--search is for the labels of pixels: leave --task out")
        else:
            self._refuse("instances")
        given = [flag for flag in needed if getattr(self, flag)]
        if self.dataset and given:
            raise ValueError(f"give either --dataset or {_flag(given[0])}, not both")
        if not self.dataset and len(given) < len(needed):
            missing = [_flag(flag) for flag in needed if flag not in given]
            raise ValueError(
                f"say what to evaluate on: --dataset NAME, or {', '.join(map(_flag, needed))} "
                f"(missing: {', '.join(missing)})"
            )
        check_writable(self.output.parent)
        if self.report is not None:
            check_writable(self.report)
        if self.output.is_dir():
            raise ValueError(f"--output must be a file such as metrics.json, {self.output} is not")

    def _refuse(self, *flags: str) -> None:
        wrong = [flag for flag in flags if getattr(self, flag) is not None]
        if wrong:
            raise ValueError(f"{_flag(wrong[0])} does not go with --task {self.task}")

    @property
    def progress(self) -> Path:
        """Where it is kept what is done so far."""
        return self.output.with_name(f"{self.output.name}.progress.jsonl")


def evaluate(job: EvaluationJob) -> dict[str, Any]:
    """Measure, write ``metrics.json`` (and the report) -> the metrics.

    Stopped, it goes on where it was when it is called again.

    Raises:
        FileNotFoundError, ValueError, OSError: what is missing or wrong, in one sentence.
        RuntimeError: a worker died.
    """
    metrics = _evaluate_pixels(job) if job.task == "semantic" else _evaluate_objects(job)
    write_json(job.output, metrics)
    job.progress.unlink(missing_ok=True)
    return metrics


def summarise(metrics: dict[str, Any]) -> str:
    """One line for people: ``mIoU 22.4, mIoU_union 22.2, …``."""
    shown = {
        key: value
        for key, value in metrics.items()
        if isinstance(value, float) and not key.endswith(("_small", "_medium", "_large"))
    }
    return ", ".join(f"{key} {value:.1f}" for key, value in shown.items())


def _evaluate_pixels(job: EvaluationJob) -> dict[str, Any]:
    variants = parse_search(job.search)
    labelled = _open_labelled(job).first(job.limit)
    seen = None if job.seen_file is None else read_seen(job.seen_file, labelled.names)
    semantic = Semantic(job.model, replace(labelled, photos=()), job.oracle, variants)
    facts = {
        **_facts(job),
        "names": labelled.spoken,
        "ignore": labelled.ignore,
        "data": asdict(labelled.settings),
        "photos": [
            [str(each.image), str(each.labels), each.labels.stat().st_mtime_ns]
            for each in labelled.photos
        ],
        "oracle": job.oracle,
        "search": variants,
    }
    facts = {**_facts(job), "fingerprint": _digest(facts)}
    records = measure_all(
        semantic, labelled.photos, job.workforce, progress=job.progress, facts=facts
    )
    extra: dict[str, Any] = {}
    best = 0
    if variants:
        best, rows = best_variant(records, labelled, variants, seen)
        extra = {"best": dict(variants[best]), "search": rows}
    confusion = add_up(records, labelled, best)
    metrics = {**confusion.metrics(seen), **_about(job, labelled.title, len(records)), **extra}
    if job.report is not None:
        chosen = replace(semantic, variants=variants[best : best + 1])
        single = [record[best] for record in records]
        device = job.workforce.devices()[0]
        write_report(job.report, chosen, labelled, single, metrics, device=device)
    return metrics


def _evaluate_objects(job: EvaluationJob) -> dict[str, Any]:
    instances, images = (Path(job.instances or ""), Path(job.images or ""))
    if job.dataset:
        instances, images = dataset_objects(job.dataset, job.data_root)
    objects = ObjectSet.load(instances, images, job.limit)
    measurement: ProposalRecall | RegionNaming = ProposalRecall(job.model)
    if job.task == "regions":
        measurement = RegionNaming(job.model, objects.names)
    files = [str(photo.path) for photo in objects.photos]
    facts = {**_facts(job), "fingerprint": _digest([str(instances), files])}
    records = measure_all(
        measurement, objects.photos, job.workforce, progress=job.progress, facts=facts
    )
    title = job.dataset or str(instances)
    return {**measurement.metrics(records), **_about(job, title, len(records))}


def _open_labelled(job: EvaluationJob) -> LabelledSet:
    if job.dataset:
        if job.ignore is not None:
            raise ValueError("--ignore belongs to --labels: a prepared data set states its own")
        return open_dataset(job.dataset, job.data_root, job.settings)
    return open_folders(
        job.images, job.labels, job.classes_file, ignore=job.ignore, overrides=job.settings
    )


def _about(job: EvaluationJob, data: str, photos: int) -> dict[str, Any]:
    return {
        "photos": photos,
        "data": data,
        "task": job.task,
        **({"oracle": job.oracle} if job.oracle else {}),
        "model": asdict(job.model),
    }


def _facts(job: EvaluationJob) -> dict[str, Any]:
    """What the records depend on, but for the data."""
    return {"task": job.task, "model": asdict(job.model), "weights": _weights_stamp(job.model)}


def _weights_stamp(model: Model) -> list[Any]:
    """Size and time of the files of what is a folder."""
    stamp = []
    for spec in (model.model, model.proposer, model.clip):
        if spec and is_checkpoint(spec):
            files = sorted(path for path in find_checkpoint(spec).iterdir() if path.is_file())
            stamp += [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    return stamp


def _digest(facts: Any) -> str:
    text = json.dumps(facts, default=str)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def _flag(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def split_settings(settings: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """``--set`` -> the model's settings, the labels' (without ``data.``)."""
    model = tuple(each for each in settings if not each.startswith(DATA))
    return model, tuple(each.removeprefix(DATA) for each in settings if each.startswith(DATA))
