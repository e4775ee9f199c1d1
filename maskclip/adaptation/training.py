"""Trains a CLIP's image tower, its prompts, or both, on mask-noun pairs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from detectron2.utils import comm
from torch.optim.lr_scheduler import LambdaLR

from maskclip.adaptation.accuracy import accuracy
from maskclip.adaptation.batches import FeatureStream, PairStream, load_batches
from maskclip.adaptation.class_teacher import load_hints
from maskclip.adaptation.config import MAY_CHANGE, AdaptConfig
from maskclip.adaptation.context import load_context
from maskclip.adaptation.features import load_bank
from maskclip.adaptation.hooks import NoteScale
from maskclip.adaptation.pair_table import PairTable, read_table
from maskclip.adaptation.parameters import build_optimizer, schedule_factor
from maskclip.adaptation.parts import FIRST_PART, first_of_two, refuse_used, second_of_two
from maskclip.adaptation.region_crops import RegionCrops
from maskclip.adaptation.sources import fingerprint_sources
from maskclip.adaptation.starting import start_clip
from maskclip.adaptation.teacher import RegionTeacher
from maskclip.clip import MaskClip
from maskclip.clip_folder import save_clip
from maskclip.json_file import write_json
from maskclip.text_files import write_clip_config
from maskclip.unseen_words import read_left_out
from proposal.configuration import config_to_dict
from proposal.training_processes import own_device
from proposal.training_record import make_record
from proposal.training_run import Learner, Purpose, run_training

Metrics = dict[str, float]
Measure = Callable[[MaskClip], Metrics]
REPORT = "report.json"  # of a finished training: what was measured, seconds, pairs


def train(
    config: AdaptConfig,
    output: str | Path,
    *,
    init: str | Path | None = None,
    resume: bool = False,
) -> Metrics:
    """Train, leave in ``output`` a checkpoint with the CLIP part -> what was measured (percent).

    ``init``: a checkpoint or run folder whose CLIP is started from. ``resume``: go on with what
    ``output`` holds. The checkpoint in ``output`` is renewed at every save. Mode ``ft_mpt`` leaves
    its first part, a run of mode ``ft``, in ``output/ft``.

    Raises:
        ValueError: a setting or a file does not fit; or the loss diverged.
        FileNotFoundError: pairs, weights or photos are missing.
        KeyboardInterrupt: stopped by the user; all is saved.
    """
    output = Path(output)
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    if config.train.mode != "ft_mpt":
        return _train(config, output, init, resume)
    folder = output / FIRST_PART
    refuse_used(output, resume)
    if not (resume and (folder / REPORT).is_file()):
        _train(first_of_two(config), folder, init, resume)
    comm.synchronize()  # the others wait for the first part's files
    return _train(second_of_two(config), output, folder, resume)


def evaluate(config: AdaptConfig, folder: str | Path) -> Metrics:
    """What a training with this config would measure on the CLIP in a checkpoint, in percent.

    Crops are made as the config says; prompts are those of the checkpoint, none are added.

    Raises:
        ValueError: the config names nothing to measure on.
    """
    closed = tuple(source for source in config.data.sources if source.exclusive)
    names = read_table(closed).exclusive_nouns() if closed else []
    measure = make_measure(config, names)
    own_prompts = replace(config.clip, prompt_depth=None, pixel_prompt=None, text_context=None)
    metrics = measure(start_clip(own_prompts, folder, own_device()))
    if not metrics:
        raise ValueError(
            "--eval-only needs pairs to measure on: set data.evaluate (or data.hold_out, where a "
            "source is exclusive)"
        )
    return metrics


def make_stream(table: PairTable, clip: MaskClip, config: AdaptConfig) -> PairStream:
    """The training's examples: crops, or cached features."""
    crops = RegionCrops(table, clip, config.data, workers=config.train.workers)
    examples = config.train.steps * config.train.batch_size
    hints = None
    if config.classifier.weight:  # before the photos, so that files that do not fit are told soon
        leave_out = _left_out(config)
        hints = load_hints(crops, clip, config.classifier, config.data.context_cache, leave_out)
    context = load_context(table, clip, config.data.context_cache)
    if not config.data.cache:
        return PairStream(crops, config.train, examples, context, hints)
    bank = load_bank(crops, clip, config.train.seed)
    return FeatureStream(crops, config.train, examples, bank, context, hints)


def make_measure(config: AdaptConfig, exclusive: list[str]) -> Measure:
    """What is measured: each of ``data.evaluate`` (a second a is a_2), and photos held out."""
    data, tables = config.data, {}
    closed = tuple(source for source in data.sources if source.exclusive)
    for number, source in enumerate(data.evaluate):
        same = [each.title for each in data.evaluate[:number]].count(source.title)
        tables[f"{source.title}_{same + 1}" if same else source.title] = read_table([source])
    if data.hold_out and closed:
        tables["held_out"] = read_table(closed, hold_out=data.hold_out, only_held_out=True)

    def measure(clip: MaskClip) -> Metrics:
        found = {}
        for name, table in tables.items():
            for key, value in accuracy(clip, table, exclusive or None).items():
                found[f"{name}/{key}"] = round(value, 2)
        return found

    return measure


def _train(config: AdaptConfig, output: Path, init: str | Path | None, resume: bool) -> Metrics:
    """One part of a training: the same weights learn from its first step to its last."""
    started = time.monotonic()
    torch.manual_seed(config.train.seed)
    table = read_table(
        config.data.sources, hold_out=config.data.hold_out, leave_out=_left_out(config)
    )
    config = _settled(config, table)
    measure = make_measure(config, table.exclusive_nouns())
    clip = start_clip(config.clip, init, own_device())
    if config.train.steps:
        clip.change(replace(clip.config, taught=_taught(clip.config.taught, table)))
    if config.train.logit_scale:
        clip.set_logit_scale(config.train.logit_scale)
    if config.train.grad_checkpointing:
        clip.tower.set_grad_checkpointing()
    learner = _learner(clip, table, config)
    stream = make_stream(table, clip, config)
    save = partial(_save, config, output.name, "" if init is None else str(init))
    purpose = Purpose(
        folder=output,
        record=make_record(config_to_dict(config), fingerprint_sources(config.data.sources)),
        may_change=MAY_CHANGE,
        batches=partial(load_batches, stream),
        save_model=save,
        validate=measure,
        extra_hooks=(NoteScale(clip),),
    )
    if comm.is_main_process():
        write_clip_config(clip, output)  # a text tower's files, if it has any
    kept = clip
    if config.train.steps:
        kept = run_training(learner, config.train.loop(), purpose, resume=resume)
    elif comm.is_main_process():
        save(output, clip, 0)
    return _report(output, measure(kept), started, len(table))


def _left_out(config: AdaptConfig) -> frozenset[str]:
    """The nouns that are to teach nothing."""
    unwanted = config.data.leave_out_nouns
    return read_left_out(unwanted) if unwanted else frozenset()


def _taught(before: tuple[str, ...], table: PairTable) -> tuple[str, ...]:
    """The nouns that a CLIP was trained on, with those of all pairs that may be drawn now."""
    drawn = {table.nouns[noun] for noun in set(table.pair_noun[table.weights() > 0].tolist())}
    return tuple(sorted(drawn.union(before)))


def _settled(config: AdaptConfig, table: PairTable) -> AdaptConfig:
    """The config with what follows from other settings, and from the number of pairs."""
    train = config.train
    if config.data.cache:
        train = replace(train, freeze_trunk=True)
    if train.epochs:
        drawn = int((table.weights() > 0).sum())
        train = replace(train, steps=math.ceil(train.epochs * drawn / train.batch_size))
    if train.evaluate_period and not train.best_metric:
        tables = [source.title for source in config.data.evaluate] or ["held_out"]
        train = replace(train, best_metric=f"{tables[0]}/top1")
    return replace(config, train=train)


def _learner(clip: MaskClip, table: PairTable, config: AdaptConfig) -> Learner:
    optimizer = build_optimizer(clip, config.train)
    teacher = RegionTeacher(
        clip,
        table,
        config.train,
        cached=bool(config.data.cache),
        hint_weight=config.classifier.weight,
    )
    optimizer.register_step_post_hook(teacher.clamp_scale)
    schedule = LambdaLR(optimizer, schedule_factor(config.train))
    return Learner(teacher, clip, optimizer, schedule)


def _save(
    config: AdaptConfig, name: str, init: str, folder: Path, clip: MaskClip, steps: int
) -> None:
    made = {"stage": "clip", "init": init, "steps": steps, "training": config_to_dict(config)}
    save_clip(clip, folder, made, name=name)


def _report(output: Path, metrics: Metrics, started: float, pairs: int) -> Metrics:
    if comm.is_main_process():
        seconds = round(time.monotonic() - started)
        write_json(output / REPORT, {"metrics": metrics, "seconds": seconds, "pairs": pairs})
    return metrics
