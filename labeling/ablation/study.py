"""Trains and measures all that a recipe asks for; what is there is not done again."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tqdm import tqdm

from labeling.ablation.evaluation import Evaluation, Protocol
from labeling.ablation.ledger import Ledger
from labeling.ablation.proposals import ProposalCache
from labeling.ablation.recipe import Recipe, RunRecipe, digest, settings_that_count
from labeling.ablation.region_features import FeatureCache
from labeling.ablation.report import write_report
from labeling.ablation.results import Results
from labeling.ablation.self_labelled import caption_entries, keep_first, label_all
from labeling.held_out import HeldOut
from labeling.prepare import Preparation
from labeling.shards import pinned_threads
from maskclip.adaptation.sources import fingerprint_sources
from maskclip.adaptation.training import REPORT, train
from maskclip.checkpoint import load_clip
from maskclip.checkpoint_source import is_checkpoint
from maskclip.json_file import write_json
from proposal.configuration import config_to_dict

Step = tuple[RunRecipe, int]  # a run and one of its seeds
NUMBERS_OF = {  # in a measurement: where the numbers of the tables are
    "top1": ("regions", "top1"),
    "mean_per_class": ("regions", "mean_per_class"),
    "clip": ("clip", "mIoU"),
    "fused": ("fused", "mIoU"),
    "stage1": ("stage1", "mIoU"),
}


class Study:
    """Works in ``recipe.output``: ``runs/<name>-<key>-s<seed>``, ``evaluations/`` and caches.

    Keys stand for all settings and inputs, those of the run started from included: a changed
    recipe has other keys, and what was made with the old one stays.
    """

    def __init__(self, recipe: Recipe, *, limit: int | None = None) -> None:
        """``limit``: only so many photos are measured on, so many of each captions file read."""
        self.recipe = recipe
        self.limit = limit
        self.output = Path(recipe.output)
        self.data = Path(recipe.shared) / "data"
        self.ledger = Ledger(self.output / "seconds.jsonl")
        self.protocol = Protocol(recipe.segmentor, recipe.fusion_weight)
        self._keys: dict[tuple[str, int], str] = {}

    @cached_property
    def held_out(self) -> HeldOut:
        """The photos that are measured on."""
        return HeldOut.load(self.recipe.shared, self.limit)

    @cached_property
    def proposals(self) -> ProposalCache:
        """What stage 1 says of them."""
        recipe = self.recipe
        return ProposalCache(self.output / "proposals", recipe.proposer, recipe.proposals)

    def execute(self, report: Path) -> None:
        """Do what is missing, most important first; the report is renewed after each step.

        Raises:
            ValueError, FileNotFoundError, OSError: an input is wrong or missing.
            KeyboardInterrupt: stopped; the same call goes on.
        """
        self.prepare()
        with pinned_threads(1):
            with self.ledger.time("proposals"):
                self.proposals.fill(self.held_out)
            steps = tqdm(plan(self.recipe), desc="ablation", unit="run")
            for run, seed in steps:
                steps.set_postfix_str(f"{run.name} {seed}")
                if self.numbers(run, seed) is None:
                    self.train(run, seed)
                    self.measure(run, seed)
                    self.report(report)
        self.report(report)

    def prepare(self) -> None:
        """Make the training data if any of it is missing."""
        folders = {
            each["folder"]
            for sources in self.recipe.pairs.values()
            for each in sources
            if "folder" in each
        }
        if not all((Path(folder) / "summary.json").is_file() for folder in folders):
            recipe = self.recipe
            Preparation(recipe.shared, recipe.data, recipe.prepare).prepare()

    def train(self, run: RunRecipe, seed: int) -> Path:
        """Train one run, or go on with it -> its folder."""
        folder = self.folder(run, seed)
        if not (folder / REPORT).is_file():
            if self.recipe.reads_labels(run):
                self.label()
            config = self.recipe.resolve(run, seed, self.labelled)
            data = replace(config.data, cache=str(self.output / "features"))
            init = self._init_of(run, seed)
            with self.ledger.time(_title("train", run, seed)):
                train(
                    replace(config, data=data),
                    folder,
                    init=self.folder(*init) if init else None,
                    resume=True,
                )
        return folder

    def label(self) -> None:
        """Self-label the captioned photos with the run that the recipe names."""
        every, first = self.labelled["all"], self.labelled["first"]
        recipe, teacher = self.recipe, self._teacher
        spec = recipe.proposer
        parts = {"model": spec} if is_checkpoint(spec) else {"proposer": spec}
        config = replace(recipe.labelling, clip=str(self.folder(*teacher)), **parts)
        entries = caption_entries(self.data, recipe.captions, self.limit)
        with self.ledger.time("label"):
            label_all(self.data, entries, Path(every), config)
            keep_first(Path(every), Path(first))

    def measure(self, run: RunRecipe, seed: int) -> dict[str, Any]:
        """What a trained run is worth, written to its JSON."""
        with self.ledger.time(_title("measure", run, seed)):
            clip = load_clip(str(self.folder(run, seed)))
            threshold = self.recipe.segmentor.mask_threshold
            cache = FeatureCache(self.output / "regions", clip, self.proposals, threshold)
            cache.fill(self.held_out)
            found = Evaluation(self.held_out, cache, self.protocol).measure(clip)
        path = self._evaluation(run, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"run": run.name, "seed": seed, **found})
        return found

    def numbers(self, run: RunRecipe, seed: int) -> dict[str, float] | None:
        """The numbers of the tables, in percent, or none while it is not measured."""
        path = self._evaluation(run, seed)
        if not path.is_file():
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: found[part][metric]
            for name, (part, metric) in NUMBERS_OF.items()
            if part in found
        }

    def results(self) -> Results:
        """All that is measured so far."""
        measured = {}
        for run, seed in plan(self.recipe):
            numbers = self.numbers(run, seed)
            if numbers is not None:
                measured[run.name, seed] = numbers
        return Results(self.recipe, measured)

    def report(self, path: Path) -> None:
        """Write the report as it stands, Markdown and, beside it, JSON."""
        steps = {"proposals", "label"}
        for run, seed in plan(self.recipe):
            steps |= {_title("train", run, seed), _title("measure", run, seed)}
        pairs = {name: _count_pairs(Path(folder)) for name, folder in self.labelled.items()}
        write_report(path, self.results(), self.ledger.total(steps), pairs)

    def folder(self, run: RunRecipe, seed: int) -> Path:
        """Where a run is trained."""
        return self.output / "runs" / f"{run.name}-{self.key(run, seed)}-s{seed}"

    def key(self, run: RunRecipe, seed: int) -> str:
        """What a training depends on."""
        if (run.name, seed) not in self._keys:
            init = self._init_of(run, seed)
            labelled = self.labelled if self.recipe.reads_labels(run) else {}
            values = settings_that_count(self.recipe.merged(run, seed, labelled))
            config = self.recipe.resolve(run, seed, labelled)
            own = [one for one in config.data.sources if one.folder not in labelled.values()]
            files = fingerprint_sources(own)
            before = self.key(*init) if init else ""
            self._keys[run.name, seed] = digest(values, files, before)
        return self._keys[run.name, seed]

    @property
    def labelled(self) -> dict[str, str]:
        """The folders of self-labelled pairs, from the ``first`` and from ``all`` captions."""
        recipe = self.recipe
        if not recipe.label_with:
            return {}
        key = digest(
            self.key(*self._teacher),
            self.proposals.key,
            config_to_dict(recipe.labelling),
            [asdict(one) for one in recipe.captions],
            self.limit,
        )
        folder = self.output / "pairs"
        return {name: str(folder / f"{key}-{name}") for name in ("first", "all")}

    @property
    def _teacher(self) -> Step:
        run = self.recipe.run(self.recipe.label_with)
        return run, run.seeds[0]

    def _init_of(self, run: RunRecipe, seed: int) -> Step | None:
        if not run.init:
            return None
        return self.recipe.run(run.init), self.recipe.seed_of_init(run, seed)

    def _evaluation(self, run: RunRecipe, seed: int) -> Path:
        key = digest(
            self.key(run, seed),
            self.proposals.key,
            config_to_dict(self.recipe.segmentor),
            self.recipe.fusion_weight,
            self.limit,
        )
        return self.output / "evaluations" / f"{run.name}-{key}-s{seed}.json"


def plan(recipe: Recipe) -> list[Step]:
    """Every run with its seeds: those with several seeds first, seed after seed, then the rest.

    A run comes after the one that it starts from.
    """
    begun_from = {run.init for run in recipe.runs} | {recipe.label_with}

    def order(step: tuple[int, RunRecipe, int]) -> tuple[bool, int, int]:
        place, run, seed = step
        alone = len(run.seeds) == 1 and run.name not in begun_from
        return alone, run.seeds.index(seed), place

    steps = [(place, run, seed) for place, run in enumerate(recipe.runs) for seed in run.seeds]
    return [(run, seed) for _, run, seed in sorted(steps, key=order)]


def _title(what: str, run: RunRecipe, seed: int) -> str:
    return f"{what} {run.name} {seed}"


def _count_pairs(folder: Path) -> dict[str, int]:
    path = folder / "summary.json"
    if not path.is_file():
        return {}
    summary = json.loads(path.read_text(encoding="utf-8"))
    # self_label writes different nouns apart; of other folders these are all there are
    return {"pairs": summary["pairs"], "nouns": summary.get("unique_nouns", summary["nouns"])}
