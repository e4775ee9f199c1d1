"""Trains a CLIP's image tower, its mask prompts, or both, on mask-noun pairs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import SimpleTrainer, create_ddp_model, hooks
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, JSONWriter, TensorboardXWriter
from torch.optim.lr_scheduler import LambdaLR

from maskclip.adaptation.accuracy import accuracy
from maskclip.adaptation.batches import CropBatches, FeatureBatches, PairBatches
from maskclip.adaptation.config import AdaptConfig, PairSource
from maskclip.adaptation.features import load_bank
from maskclip.adaptation.hooks import ClampScale, Measure
from maskclip.adaptation.pair_table import PairTable, read_table
from maskclip.adaptation.parameters import build_optimizer, schedule_factor
from maskclip.adaptation.region_crops import RegionCrops
from maskclip.adaptation.starting import save_clip, start_clip
from maskclip.adaptation.teacher import RegionTeacher
from maskclip.clip import MaskClip
from proposal.configuration import config_to_dict
from proposal.training_hooks import (
    AverageWeights,
    ClipGradients,
    SaveState,
    StopOnSignal,
    resume_from,
)
from proposal.whole_file import write_whole

Metrics = dict[str, float]


@dataclass(frozen=True)
class Adaptation:
    """The parts of a training."""

    config: AdaptConfig
    teacher: RegionTeacher
    trainer: SimpleTrainer
    schedule: LambdaLR
    average: AverageWeights | None

    @property
    def best(self) -> MaskClip:
        """The CLIP that is kept in the end."""
        return self.average.average if self.average else self.teacher.clip

    @property
    def parts(self) -> dict[str, Any]:
        """What a resume restores."""
        parts = {
            "clip": self.teacher.clip,
            "optimizer": self.trainer.optimizer,
            "schedule": self.schedule,
        }
        return parts | ({"average": self.average.average} if self.average else {})


def train(
    config: AdaptConfig,
    output: str | Path,
    *,
    init: str | Path | None = None,
    resume: bool = False,
) -> Metrics:
    """Train, leave in ``output`` a checkpoint with the CLIP part -> what was measured (percent).

    ``init``: a checkpoint or run folder whose CLIP is started from. ``resume``: go on with what
    ``output`` holds. The checkpoint in ``output`` is renewed at every save.

    Raises:
        ValueError: a setting or a file does not fit.
        FileNotFoundError: pairs, weights or photos are missing.
        KeyboardInterrupt: stopped by the user; all is saved.
    """
    output, started = Path(output), time.monotonic()
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    torch.manual_seed(config.train.seed + comm.get_rank())
    adaptation, table = _build(freeze_cached(config), init)
    start = resume_from(output, adaptation.parts, resume)
    adaptation.trainer.data_loader = make_batches(table, adaptation.teacher.clip, config, start)
    output.mkdir(parents=True, exist_ok=True)
    measure = _measure(adaptation.best, config)
    source = "" if init is None else str(init)
    save = _add_hooks(adaptation, output, measure, source)
    if not config.train.steps and comm.is_main_process():
        _write_best(adaptation, output, source, 0)
    try:
        if start < config.train.steps:
            adaptation.trainer.train(start, config.train.steps)
    except KeyboardInterrupt:
        if save is not None:
            save.save_interrupted(adaptation.trainer.iter + 1)
        raise
    metrics = measure()
    if comm.is_main_process():
        seconds = round(time.monotonic() - started)
        report = {"metrics": metrics, "seconds": seconds, "pairs": len(table)}
        write_whole(output / "report.json", json.dumps(report, indent=1).encode())
    return metrics


def evaluate(config: AdaptConfig, folder: str | Path) -> Metrics:
    """What a training with this config would measure on the CLIP in a checkpoint, in percent."""
    return _measure(start_clip(config.clip, folder, best_device()), config)()


def best_device() -> str:
    """Where to train."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def freeze_cached(config: AdaptConfig) -> AdaptConfig:
    """The same config, with the trunk frozen where its features are cached."""
    if not config.data.cache:
        return config
    return replace(config, train=replace(config.train, freeze_trunk=True))


def make_batches(table: PairTable, clip: MaskClip, config: AdaptConfig, first: int) -> PairBatches:
    """Endless batches, from the ``first`` iteration on, of crops or of cached features."""
    crops = RegionCrops(table, clip, config.data)
    if not config.data.cache:
        return CropBatches(crops, config.train, first)
    bank = load_bank(crops, clip, config.train.seed)
    return FeatureBatches(crops, bank, config.train, first)


def _build(config: AdaptConfig, init: str | Path | None) -> tuple[Adaptation, PairTable]:
    table = read_table(config.data.sources, hold_out=config.data.hold_out)
    clip = start_clip(config.clip, init, best_device())
    optimizer = build_optimizer(clip, config.train)
    teacher = RegionTeacher(clip, table, config.train)
    average = AverageWeights(clip, config.train.average) if config.train.average else None
    trainer = SimpleTrainer(create_ddp_model(teacher), [], optimizer)
    schedule = LambdaLR(optimizer, schedule_factor(config.train))
    return Adaptation(config, teacher, trainer, schedule, average), table


def _add_hooks(
    adaptation: Adaptation, output: Path, measure: Callable[[], Metrics], init: str
) -> SaveState | None:
    """Register everything that happens between steps; the main process alone writes files."""
    trainer, config = adaptation.trainer, adaptation.config.train
    trainer.register_hooks([hooks.IterationTimer(warmup_iter=0)])
    if config.clip_gradient:
        trainer.register_hooks([ClipGradients(adaptation.teacher, config.clip_gradient)])
    trainer.register_hooks(
        [
            hooks.LRScheduler(scheduler=adaptation.schedule),
            ClampScale(adaptation.teacher),
            adaptation.average,
            Measure(config.evaluate_period, measure),
        ]
    )
    save = None
    if comm.is_main_process():
        save = SaveState(
            output,
            adaptation.parts,
            config.checkpoint_minutes,
            lambda steps: _write_best(adaptation, output, init, steps),
        )
        writers = [
            CommonMetricPrinter(config.steps),
            JSONWriter(str(output / "metrics.jsonl")),
            TensorboardXWriter(str(output)),
        ]
        trainer.register_hooks([save, hooks.PeriodicWriter(writers, period=config.log_period)])
    trainer.register_hooks([StopOnSignal()])
    return save


def _write_best(adaptation: Adaptation, output: Path, init: str, steps: int) -> None:
    provenance = {
        "stage": "clip",
        "init": init,
        "steps": steps,
        "training": config_to_dict(adaptation.config),
    }
    save_clip(adaptation.best, output, provenance)


def _measure(clip: MaskClip, config: AdaptConfig) -> Callable[[], Metrics]:
    """What is measured: each folder of ``data.evaluate``, and the photos held out."""
    data = config.data
    closed = tuple(source for source in data.sources if source.exclusive)
    names = read_table(closed).exclusive_nouns() if closed else None
    tables = {Path(path).name: read_table([PairSource(path)]) for path in data.evaluate}
    if data.hold_out and closed:
        tables["held_out"] = read_table(closed, hold_out=data.hold_out, only_held_out=True)

    def measure() -> Metrics:
        found = {}
        for name, table in tables.items():
            for key, value in accuracy(clip, table, names).items():
                found[f"{name}/{key}"] = round(value, 2)
        return found

    return measure
