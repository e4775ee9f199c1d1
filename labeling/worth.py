"""How often labelled pairs lie on the right object, against ground truth.

Protocol. Photos that have both captions and COCO instances are labelled as ``tools/self_label.py``
does it. A pair counts where its noun means one of COCO's names (``data/coco_synonyms.txt``) and the
photo has objects of that name; crowds are objects, too. In percent of these pairs:

- *instance*: the mask overlaps one of these objects with IoU 0.5 or more;
- *union*: it so overlaps all of them taken together (a noun may be in the plural);
- *either*: one of the two;
- *pointing*: the mask's innermost point lies in one of them.

Beside them, what the regions allow: *reachable*, pairs for which some region of the photo overlaps
as *either* asks, the limit of any ranking; *chance*, the mean over the photo's regions: what a
random choice gets. Two rankings choose from the same regions: *ours* (``MatchConfig()``) and
*paper* (the cosine alone). Photos are split by ``splits/coco_val.txt``: nothing trained on these.
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
from labeling.matching import Candidates, Match, MatchConfig, Matcher
from labeling.nouns import NounParser
from labeling.pointing import OVERLAP, coco_names_of_nouns, judge_mask, objects_of
from maskclip.annotations import AnnotatedPhoto, coco_names, coco_photos, photo_key, read_photo_list
from maskclip.images import load_image
from maskclip.segmentor import Segmentor
from proposal.proposals import Proposals
from proposal.recall import mask_ious
from proposal.superpixels import SuperpixelConfig, SuperpixelProposer

PROPOSERS = ("own", "superpixels", "truth")
SPLITS = ("val", "other")
RANKINGS = {"ours": MatchConfig(), "paper": MatchConfig(objectness_power=0, area_power=0)}
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
    segmentor: Segmentor, truth: Truth, *, proposers: Sequence[str] = PROPOSERS
) -> dict[str, Any]:
    """A model on photos with ground truth -> by proposer, ranking and split, the metrics."""
    photos = {Path(entry.image).stem: photo for entry, photo in truth.entries}
    build = {
        "own": lambda: segmentor.proposer,
        "superpixels": lambda: SuperpixelProposer(SuperpixelConfig(max_regions=SUPERPIXELS)),
        "truth": lambda: TruthProposer(photos),
    }
    parser = NounParser()
    numbers: dict[str, Any] = {}
    for name in proposers:
        least = segmentor.config.min_objectness if name == "own" else 0.0
        config = replace(segmentor.config, min_objectness=least)
        judged = Segmentor(build[name](), segmentor.clip, config)
        matchers = {ranking: Matcher(judged, match) for ranking, match in RANKINGS.items()}
        rows: list[_Row] = []
        for entry, photo in tqdm(truth.entries, desc=name, unit="photo"):
            found = parser.nouns(caption.text for caption in entry.captions)
            nouns = list(dict.fromkeys(noun for some in found for noun in some))
            rows += _judge_photo(matchers, truth, (entry, photo), nouns)
        numbers[name] = {
            ranking: {split: _average(rows, ranking, split) for split in SPLITS}
            for ranking in RANKINGS
        }
    return numbers


@dataclass(frozen=True)
class _Row:
    """One pair whose noun means one of COCO's names."""

    split: str
    ranking: str
    image: str
    hits: dict[str, float] | None  # by metric, in [0, 1]; none where the photo has no such object


def _judge_photo(
    matchers: Mapping[str, Matcher],
    truth: Truth,
    told: tuple[CaptionedImage, AnnotatedPhoto],
    nouns: Sequence[str],
) -> Iterator[_Row]:
    entry, photo = told
    if not any(noun in truth.meanings for noun in nouns):
        return
    image = load_image(truth.images / entry.image)
    first = next(iter(matchers.values()))
    candidates = first.look(image, nouns, stem=Path(entry.image).stem)
    overlaps = _Overlaps(photo, candidates, first.segmentor.config.mask_threshold)
    for ranking, matcher in matchers.items():
        for match in matcher.choose(candidates):
            if match.noun in truth.meanings:
                hits = overlaps.judge(match, truth.meanings[match.noun])
                yield _Row(truth.split_of(photo), ranking, entry.image, hits)


class _Overlaps:
    """How all regions of a photo meet its objects, computed once for each set of names."""

    def __init__(self, photo: AnnotatedPhoto, candidates: Candidates, threshold: float) -> None:
        self.photo, self.candidates, self.threshold = photo, candidates, threshold
        self._fits: dict[tuple[str, ...], np.ndarray] = {}

    def judge(self, match: Match, names: tuple[str, ...]) -> dict[str, float] | None:
        """A match, the names its noun may mean -> the metrics; none where there is no object."""
        objects = objects_of(self.photo, names)  # (M, H, W)
        if not len(objects):
            return None
        if names not in self._fits:
            wanted = np.concatenate([objects, objects.any(axis=0, keepdims=True)])  # (M + 1, H, W)
            ious = mask_ious(self.candidates.mask_probs, wanted, self.threshold)  # (N, M + 1)
            self._fits[names] = ious.max(axis=1) >= OVERLAP
        hit, fits = judge_mask(match.mask, objects), self._fits[names]
        return {
            "instance": hit.on_instance,
            "union": hit.on_union,
            "either": hit.on_instance or hit.on_union,
            "pointing": hit.pointed,
            "reachable": bool(fits.any()),
            "chance": float(fits.mean()),
        }


def _average(rows: Sequence[_Row], ranking: str, split: str) -> dict[str, Any]:
    """The metrics in percent, over the pairs of one ranking and split; NaN without pairs."""
    own = [row for row in rows if (row.ranking, row.split) == (ranking, split)]
    judged = [row for row in own if row.hits is not None]
    means = {
        name: float(np.mean([100 * row.hits[name] for row in judged])) if judged else float("nan")
        for name in METRICS
    }
    photos = len({row.image for row in judged})
    return means | {"pairs": len(judged), "photos": photos, "absent": len(own) - len(judged)}


def table(numbers: Mapping[str, Any]) -> str:
    """The numbers as Markdown, a line for each proposer, ranking and split."""
    lines = [f"| proposals | ranking | photos | pairs | {' | '.join(METRICS)} |"]
    lines.append("|---|---|---|" + "---:|" * (len(METRICS) + 1))
    for name, rankings in numbers.items():
        for ranking, splits in rankings.items():
            for split, metrics in splits.items():
                shown = " | ".join(f"{metrics[metric]:.1f}" for metric in METRICS)
                photos = f"{metrics['photos']} {split}"
                lines.append(f"| {name} | {ranking} | {photos} | {metrics['pairs']} | {shown} |")
    return "\n".join(lines)
