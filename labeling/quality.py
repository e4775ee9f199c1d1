"""What a model is worth on photos that nothing trains on.

Protocol, all numbers in percent. All parts but *msrc* are measured on ``splits/coco_val.txt``;
``splits/coco_unseen.txt`` splits names in seen and unseen ones, which says something only of a
model that was trained without the latter (``configs/vocabularies/coco_unseen_words.txt``).

- *proposals*: class-agnostic recall of the photos' instances (``proposal.recall``).
- *superpixels*: the same of the superpixel proposer with its default settings, largest regions
  first: the baseline of *proposals*. It takes minutes and does not depend on the model. With both,
  *proposals* also has ``AR@100_ratio``, how many times the baseline's AR@100 the model's is.
- *regions*: every ground-truth mask (no crowds) is cropped and classified among COCO's 80 names;
  top-1 and top-5 over all masks, and top-1 averaged over the names that occur (``mean_per_class``);
  the same of masks of seen and of unseen names with their harmonic mean (``h_``); and masks of
  unseen names given only these names (``unseen_alone_``); and seen and unseen masks where unseen
  names get a head start (``calibrated_``). Baseline: always the commonest name.
- *pixels*: labels of the whole photo among the 80 names, no background. The truth is painted from
  the instances, largest first so that small ones lie on top; crowds and unlabelled pixels are not
  counted. mIoU of all, seen and unseen names. Baseline: always the name that has most pixels.
- *voc*: the same for the 20 names that the DeepLab teacher knows, on the pixels whose true name is
  among them; the model is given these 20 names. Baseline: the teacher, its background left out.
- *msrc*: labels of the whole photo among the 23 names, stuff and things, of MSRC v2's validation
  photos (``labeling.msrc``); unlabelled pixels are not counted. Baseline: always the commonest.
- *queries*: masks asked for with words that are in no list (``labeling.queries``).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labeling.held_out import (
    HeldOut,
    commonest_label,
    score_labels,
    seen_labels,
)
from labeling.mask_scores import MaskScores, measure_regions, score_masks
from labeling.msrc import MsrcPhotos, measure_msrc
from labeling.queries import measure_queries, read_queries
from labeling.teachers import TeacherDeepLab
from maskclip.annotations import AnnotatedPhoto
from maskclip.benchmarks.model import Model
from maskclip.checkpoint import load_proposer
from maskclip.segmentor import Segmentor
from proposal.proposals import Proposals, Proposer
from proposal.recall import Truth, proposal_recall

PARTS = ("proposals", "superpixels", "regions", "pixels", "voc", "msrc", "queries")
TEACHER = "weights/mobilenetv2_100_voc_deeplab.safetensors"


def measure(
    candidate: Model,
    shared: str | Path,
    *,
    only: Sequence[str] = PARTS,
    limit: int | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """The candidate on the held-out photos -> for each of ``only``, numbers per contestant."""
    held_out = HeldOut.load(shared, limit)
    table = read_queries()

    @cache
    def segmentor() -> Segmentor:
        return candidate.segmentor(device)

    @cache
    def scores() -> MaskScores:
        texts = held_out.names + (table.texts if "queries" in only else ())
        return score_masks(candidate.stage2(device), held_out, texts)

    measurements = {
        "proposals": lambda: measure_proposals({"model": candidate.stage1(device)}, held_out),
        "superpixels": lambda: measure_proposals(
            {"baseline of proposals": load_proposer("superpixels")}, held_out
        ),
        "regions": lambda: measure_regions(scores(), held_out),
        "pixels": lambda: measure_pixels(segmentor(), held_out),
        "voc": lambda: measure_voc(
            segmentor(), TeacherDeepLab.load(Path(shared) / TEACHER), held_out
        ),
        "msrc": lambda: measure_msrc(segmentor(), MsrcPhotos.load(shared, limit)),
        "queries": lambda: measure_queries(scores(), table),
    }
    numbers: dict[str, Any] = {"model": candidate.model, "photos": len(held_out.photos)}
    numbers |= {part: measurements[part]() for part in PARTS if part in only}
    if {"proposals", "superpixels"} <= numbers.keys():
        add_ratio(numbers["proposals"]["model"], numbers["superpixels"]["baseline of proposals"])
    return numbers


def measure_proposals(proposers: dict[str, Proposer], held_out: HeldOut) -> dict[str, Any]:
    """Class-agnostic recall of each proposer."""
    return {
        who: proposal_recall(
            (_propose(proposer, image), _truth(photo)) for image, photo in held_out.each(who)
        )
        for who, proposer in proposers.items()
    }


def add_ratio(recall: dict[str, float], baseline: dict[str, float]) -> None:
    """Note how many times the baseline's AR@100 the recall's is; not where the baseline is 0."""
    if baseline["AR@100"] > 0:
        recall["AR@100_ratio"] = recall["AR@100"] / baseline["AR@100"]


def measure_pixels(segmentor: Segmentor, held_out: HeldOut) -> dict[str, Any]:
    """Metrics over all names, the Segmentor's and those of the commonest name."""
    names = held_out.names
    seen = seen_labels(names, held_out.unseen) if held_out.unseen else None
    commonest = commonest_label(held_out)
    said = score_labels(lambda image: segmentor.segment(image, names).labels, held_out, names, seen)
    constant = score_labels(
        lambda image: np.full(image.shape[:2], commonest), held_out, names, seen
    )
    return {"model": said, f"always {names[commonest]}": constant}


def measure_voc(segmentor: Segmentor, teacher: TeacherDeepLab, held_out: HeldOut) -> dict[str, Any]:
    """Metrics over the teacher's names, the Segmentor's and the teacher's, without background."""
    names = teacher.names
    said = score_labels(lambda image: segmentor.segment(image, names).labels, held_out, names)
    taught = score_labels(lambda image: teacher.segment(image)[0], held_out, names)
    return {"model": said, "DeepLab teacher": taught}


@torch.no_grad()
def _propose(proposer: Proposer, image: np.ndarray) -> Proposals:
    return proposer.propose(image)


def _truth(photo: AnnotatedPhoto) -> Truth:
    single = [one for one in photo.instances if not one.crowd]
    masks = np.zeros((len(single), *photo.size_hw), dtype=bool)
    for index, instance in enumerate(single):
        masks[index] = instance.mask
    return Truth(masks, np.array([one.stated_area for one in single]))
