"""How often labelled pairs lie on the right object, against ground truth.

Protocol. Photos that have both captions and COCO instances are labelled as ``tools/self_label.py``
does it. A pair counts where its noun means one of COCO's names (``data/coco_synonyms.txt``) and the
photo has objects of that name; crowds are objects, too. In percent of these pairs:

- *instance*: the mask overlaps one of these objects with IoU 0.5 or more;
- *union*: it so overlaps all of them taken together (a noun may be in the plural);
- *either*: one of the two;
- *pointing*: the mask's innermost point lies in one of them.

Beside them, what the proposals allow: *reachable*, pairs for which some proposal of the photo
overlaps as *either* asks, the limit of any scoring; *chance*, the mean over the photo's proposals:
what a random choice gets. Photos are split by ``splits/coco_val.txt``: nothing trained on these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from labeling.captions import CaptionedImage, read_captions
from labeling.labeler import Labeler
from labeling.matching import MatchConfig
from labeling.pointing import OVERLAP, coco_names_of_nouns, judge_mask, objects_of
from maskclip.annotations import AnnotatedPhoto, coco_names, coco_photos, photo_key, read_photo_list
from maskclip.images import load_image
from maskclip.pairs import Pair, decode_mask
from maskclip.segmentor import Segmentor
from proposal.proposals import Proposals, Proposer, propose_all
from proposal.recall import mask_ious
from proposal.superpixels import SuperpixelConfig, SuperpixelProposer

PROPOSERS = ("own", "superpixels", "truth")
SPLITS = ("val", "other")
METRICS = ("instance", "union", "either", "pointing", "reachable", "chance")
SUPERPIXELS = 200  # the largest: more cost minutes and add small ones


@dataclass(frozen=True)
class TruthProposer:
    """The ground-truth masks of each photo as proposals of score 1: CLIP is judged alone."""

    photos: Mapping[str, AnnotatedPhoto]  # by the photo's stem

    def propose_batch(
        self, images: Sequence[np.ndarray], stems: Sequence[str | None]
    ) -> list[Proposals]:
        """B images (H, W, 3) uint8 RGB and their B file stems -> B Proposals, crowds included."""
        return [self._propose(image, stem) for image, stem in zip(images, stems, strict=True)]

    def _propose(self, image: np.ndarray, stem: str | None) -> Proposals:
        objects = self.photos[stem or ""].instances
        if not objects:
            return Proposals.empty(image.shape[:2])
        masks = torch.from_numpy(np.stack([one.mask for one in objects])).float()
        return Proposals(masks, torch.ones(len(masks)))


class RecordingProposer:
    """Any proposer, and the proposals that it gave last."""

    def __init__(self, proposer: Proposer) -> None:
        self.proposer = proposer
        self.last: Proposals | None = None

    def propose_batch(
        self, images: Sequence[np.ndarray], stems: Sequence[str | None]
    ) -> list[Proposals]:
        """B images (H, W, 3) uint8 RGB and their B file stems -> B Proposals."""
        found = propose_all(self.proposer, images, stems)
        self.last = found[-1]
        return found


@dataclass(frozen=True)
class Truth:
    """Photos with captions and objects."""

    entries: tuple[tuple[CaptionedImage, AnnotatedPhoto], ...]
    meanings: dict[str, tuple[str, ...]]  # noun: COCO's names that it may mean
    images: Path
    held_out: frozenset[str]  # keys of photos that nothing trained on

    @classmethod
    def load(cls, shared: str | Path, limit: int | None = None) -> Truth:
        """The photos of ``data/coco``, the first ``limit`` of each split.

        Raises:
            FileNotFoundError: there is no such folder.
        """
        data = Path(shared) / "data"
        if not data.is_dir():
            raise FileNotFoundError(f"expected a folder that holds data/, got {shared}")
        instances = data / "coco" / "instances.json"
        said = {one.image: one for one in read_captions(data / "coco" / "captions.json")}
        keys = {photo_key(image) for image in said}
        held_out = read_photo_list(data / "splits" / "coco_val.txt")
        splits: dict[bool, list] = {True: [], False: []}
        for photo in coco_photos(instances, keys.__contains__):
            if photo.file_name in said:
                splits[photo_key(photo.file_name) in held_out].append(
                    (said[photo.file_name], photo)
                )
        entries = (*splits[True][:limit], *splits[False][:limit])
        meanings = coco_names_of_nouns(coco_names(instances))
        return cls(entries, meanings, data / "coco" / "images", held_out)

    def split_of(self, photo: AnnotatedPhoto) -> str:
        """``val`` for photos that nothing trained on, ``other`` for the rest."""
        return "val" if photo_key(photo.file_name) in self.held_out else "other"


def measure_worth(
    segmentor: Segmentor,
    truth: Truth,
    *,
    proposers: Sequence[str] = PROPOSERS,
    match: MatchConfig | None = None,
) -> dict[str, Any]:
    """A model on photos with ground truth -> for each of the proposers and splits, the metrics."""
    photos = {Path(entry.image).stem: photo for entry, photo in truth.entries}
    build = {
        "own": lambda: segmentor.proposer,
        "superpixels": lambda: SuperpixelProposer(SuperpixelConfig(max_regions=SUPERPIXELS)),
        "truth": lambda: TruthProposer(photos),
    }
    numbers: dict[str, Any] = {}
    for name in proposers:
        recorder = RecordingProposer(build[name]())
        least = segmentor.config.min_objectness if name == "own" else 0.0
        config = replace(segmentor.config, min_objectness=least)
        labeler = Labeler(Segmentor(recorder, segmentor.clip, config), match)
        rows = list(_judge_photos(labeler, recorder, truth, name))
        numbers[name] = {split: _average(rows, split) for split in SPLITS}
    return numbers


@dataclass(frozen=True)
class _Row:
    """One pair whose noun means one of COCO's names."""

    split: str
    noun: str
    image: str
    hits: dict[str, float] | None  # by metric, in [0, 1]; none where the photo has no such object


def _judge_photos(
    labeler: Labeler, recorder: RecordingProposer, truth: Truth, title: str
) -> Iterator[_Row]:
    for entry, photo in tqdm(truth.entries, desc=title, unit="photo"):
        image = load_image(truth.images / entry.image)
        pairs = labeler.label(image, entry)
        threshold = labeler.matcher.segmentor.config.mask_threshold
        least = labeler.matcher.segmentor.config.min_objectness
        known = [pair for pair in pairs if pair.noun in truth.meanings]
        if not known:
            continue
        proposals = recorder.last[recorder.last.scores >= least]
        for pair in known:
            objects = objects_of(photo, truth.meanings[pair.noun])
            hits = _judge(pair, objects, proposals, threshold) if len(objects) else None
            yield _Row(truth.split_of(photo), pair.noun, entry.image, hits)


def _judge(
    pair: Pair, objects: np.ndarray, proposals: Proposals, threshold: float
) -> dict[str, float]:
    """A pair, objects (M, H, W) bool that its noun may mean, all proposals -> the metrics."""
    hit = judge_mask(decode_mask(vars(pair)), objects)
    wanted = np.concatenate([objects, objects.any(axis=0, keepdims=True)])  # (M + 1, H, W)
    fits = mask_ious(proposals.mask_probs, wanted, threshold).max(axis=1) >= OVERLAP  # (Q,)
    return {
        "instance": hit.on_instance,
        "union": hit.on_union,
        "either": hit.on_instance or hit.on_union,
        "pointing": hit.pointed,
        "reachable": bool(fits.any()),
        "chance": float(fits.mean()),
    }


def _average(rows: Sequence[_Row], split: str) -> dict[str, Any]:
    """The metrics in percent, over the pairs of one split; NaN without pairs."""
    own = [row for row in rows if row.split == split]
    judged = [row for row in own if row.hits is not None]
    means = {
        name: float(np.mean([100 * row.hits[name] for row in judged])) if judged else float("nan")
        for name in METRICS
    }
    photos = len({row.image for row in judged})
    return means | {"pairs": len(judged), "photos": photos, "absent": len(own) - len(judged)}


def table(numbers: Mapping[str, Any]) -> str:
    """The numbers as Markdown, a line for each proposer and split."""
    lines = [f"| proposals | photos | pairs | {' | '.join(METRICS)} |"]
    lines.append("|---|---|" + "---:|" * (len(METRICS) + 1))
    for name, splits in numbers.items():
        for split, metrics in splits.items():
            shown = " | ".join(f"{metrics[metric]:.1f}" for metric in METRICS)
            lines.append(f"| {name} | {metrics['photos']} {split} | {metrics['pairs']} | {shown} |")
    return "\n".join(lines)
