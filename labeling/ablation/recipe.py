"""What an ablation consists of, as ``configs/ablation.yaml`` says it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labeling.label_config import LabelConfig
from labeling.prepare import PrepareConfig
from maskclip.adaptation.config import MAY_CHANGE, AdaptConfig
from maskclip.segmentor_config import SegmentorConfig
from proposal.configuration import config_from_dict, load_config

# What a run's key says nothing of: other values of it change nothing of what is learned
FREE = MAY_CHANGE - {"train.steps", "train.epochs", "train.prompt_steps"}
LABELLED = ("first", "all")  # the captions of a photo that self-labelling may read
# Numbers of a run, in percent; "mIoU" stands for the fused one where stage 1 can name, else CLIP's
NUMBERS = ("top1", "mean_per_class", "clip", "fused", "stage1")
VALUES = (*NUMBERS, "mIoU")


@dataclass(frozen=True)
class Captions:
    """A captions file and its photos, both relative to ``shared``'s data folder."""

    file: str = ""
    images: str = ""
    photos: int | None = None  # the first so many; none = all


@dataclass(frozen=True)
class RunRecipe:
    """One training and its seeds; ``settings`` is what differs from the ablation's ``training``."""

    name: str = ""
    init: str = ""  # the run whose CLIP it starts from; "" = a new tower
    pairs: str = ""  # one of the ablation's ``pairs``
    seeds: tuple[int, ...] = (0,)
    settings: dict[str, Any] = field(default_factory=dict)  # of AdaptConfig, nested


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    title: str = ""
    run: str = ""


@dataclass(frozen=True)
class Table:
    """Some runs side by side."""

    title: str = ""
    columns: tuple[str, ...] = ()  # of NUMBERS
    rows: tuple[Row, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Direction:
    """One number that the paper finds better than another."""

    what: str = ""
    better: str = ""  # run
    worse: str = ""  # run
    paper: tuple[float, ...] = ()  # its numbers, better and worse; none if it gives none
    better_value: str = "mIoU"  # of VALUES
    worse_value: str = "mIoU"


@dataclass(frozen=True)
class Recipe:
    """Trainings, tables and what the paper says; paths are relative to the working directory."""

    shared: str = "../shared"
    data: str = "runs/nano_data"  # made by tools/prepare_nano.py
    prepare: PrepareConfig = field(default_factory=PrepareConfig)  # it, if it is missing
    output: str = "runs/ablation"
    proposer: str = "nano"  # the same for all rows
    proposals: int = 60  # a photo, those of the highest scores
    fusion_weight: float = 0.7  # w of SPEC 2.5
    segmentor: SegmentorConfig = field(default_factory=SegmentorConfig)
    captions: tuple[Captions, ...] = ()
    label_with: str = ""  # the run whose CLIP self-labels
    labelling: LabelConfig = field(default_factory=LabelConfig)
    training: dict[str, Any] = field(default_factory=dict)  # of AdaptConfig, for all runs
    pairs: dict[str, Any] = field(default_factory=dict)  # name: data.sources
    runs: tuple[RunRecipe, ...] = ()
    tables: tuple[Table, ...] = ()
    paper: tuple[Direction, ...] = ()
    intro: str = ""  # of the report
    notes: tuple[str, ...] = ()  # where it differs from the paper

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """From YAML, with ``a.b=value`` overrides.

        Raises:
            FileNotFoundError, ValueError: as ``load_config``.
            ValueError: a name is used that is not there, or twice; a run's settings do not fit.
        """
        recipe = load_config(cls, Path(path), overrides)
        recipe._check_runs()
        recipe._check_report()
        return recipe

    def run(self, name: str) -> RunRecipe:
        """The run of that name."""
        return next(run for run in self.runs if run.name == name)

    def seed_of_init(self, run: RunRecipe, seed: int) -> int:
        """The seed of the run that this one starts from: the same one if it has it."""
        seeds = self.run(run.init).seeds
        return seed if seed in seeds else seeds[0]

    def merged(self, run: RunRecipe, seed: int, labelled: Mapping[str, str]) -> dict[str, Any]:
        """The run's settings as a nested mapping; ``labelled`` are the folders of LABELLED."""
        values = _merge(deepcopy(self.training), run.settings)
        if run.pairs:
            sources = [_source(each, labelled, run.pairs) for each in self.pairs[run.pairs]]
            values = _merge(values, {"data": {"sources": sources}})
        return _merge(values, {"train": {"seed": seed}})

    def resolve(self, run: RunRecipe, seed: int, labelled: Mapping[str, str]) -> AdaptConfig:
        """The whole configuration of a training.

        Raises:
            ValueError: a setting is unknown or does not fit.
        """
        values = self.merged(run, seed, labelled)
        return config_from_dict(AdaptConfig, values, f"the settings of run {run.name}")

    def reads_labels(self, run: RunRecipe) -> bool:
        """Does it need self-labelled pairs?"""
        return any("labelled" in each for each in self.pairs.get(run.pairs, ()))

    def _check_runs(self) -> None:
        names = [run.name for run in self.runs]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"the name of a run must be used once, got {sorted(twice)[0]} twice")
        for place, run in enumerate(self.runs):
            _check(run.init, ["", *names[:place]], f"init of run {run.name}")
            _check(run.pairs, ["", *self.pairs], f"pairs of run {run.name}")
            if not run.seeds:
                raise ValueError(f"seeds of run {run.name} must be one or more, got none")
            self.resolve(run, run.seeds[0], {name: name for name in LABELLED})
        _check(self.label_with, ["", *names], "label_with")

    def _check_report(self) -> None:
        names = [run.name for run in self.runs]
        for table in self.tables:
            for row in table.rows:
                _check(row.run, names, f"the run of row {row.title!r}")
            for column in table.columns:
                _check(column, NUMBERS, f"a column of {table.title!r}")
        for one in self.paper:
            for run in (one.better, one.worse):
                _check(run, names, f"a run of paper: {one.what!r}")
            for value in (one.better_value, one.worse_value):
                _check(value, VALUES, f"a value of paper: {one.what!r}")


def digest(*parts: Any) -> str:
    """Plain values -> a short key that changes when they do."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def settings_that_count(values: Mapping[str, Any]) -> dict[str, Any]:
    """A nested mapping of settings without those that change nothing of what is learned."""
    return {
        section: {
            name: value for name, value in settings.items() if f"{section}.{name}" not in FREE
        }
        for section, settings in values.items()
    }


def _source(source: Mapping[str, Any], labelled: Mapping[str, str], name: str) -> dict[str, Any]:
    """A source with the folder that ``labelled: first`` or ``all`` stands for."""
    source = dict(source)
    if "labelled" in source:
        captions = source.pop("labelled")
        _check(captions, LABELLED, f"pairs.{name}: labelled")
        source["folder"] = labelled[captions]
    return source


def _merge(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _check(value: str, known: Iterable[str], where: str) -> None:
    if value not in known:
        listed = ", ".join(each for each in known if each) or "none yet"
        raise ValueError(f"{where} must be one of {listed}, got {value!r}")
