"""What a model is worth on the photos that nothing trains on (``splits/coco_val.txt``).

Protocol, all numbers in percent:

- *proposals*: class-agnostic recall of the photos' instances (``proposal.recall``).
- *superpixels*: the same of the superpixel proposer with its default settings, largest regions
  first: the baseline of *proposals*. It takes minutes and does not depend on the model.
- *regions*: every ground-truth mask (no crowds) is cropped and classified among COCO's 80 names;
  top-1 over all masks, and averaged over the names that occur. Baseline: always the commonest name.
- *pixels*: labels of the whole photo among the 80 names, no background. The truth is painted from
  the instances, largest first so that small ones lie on top; crowds and unlabelled pixels are not
  counted. Baseline: always the name that has most pixels in these photos.
- *voc*: the same for the 20 names that the DeepLab teacher knows, on the pixels whose true name is
  among them; the model is given these 20 names. Baseline: the teacher, its background left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from labeling.teachers import TeacherDeepLab
from maskclip.annotations import (
    AnnotatedPhoto,
    coco_names,
    coco_photos,
    read_photo_list,
)
from maskclip.benchmarks.model import Model
from maskclip.checkpoint import load_proposer
from maskclip.clip import MaskClip
from maskclip.datasets.label_maps import paint_labels
from maskclip.evaluation import Confusion
from maskclip.images import load_image
from maskclip.region_accuracy import classify_masks, region_accuracy
from maskclip.segmentor import Segmentor
from proposal.proposals import Proposals, Proposer
from proposal.recall import Truth, proposal_recall

PARTS = ("proposals", "superpixels", "regions", "pixels", "voc")
IGNORE = 255
TEACHER = "weights/mobilenetv2_100_voc_deeplab.safetensors"
SUMMARY = {  # measurement: the numbers of it that the table shows
    "proposals": ("AR@10", "AR@100", "best_overlap"),
    "superpixels": ("AR@10", "AR@100", "best_overlap"),
    "regions": ("top1", "mean_per_class"),
    "pixels": ("mIoU", "mIoU_union", "pACC"),
    "voc": ("mIoU", "mIoU_union", "pACC"),
}


@dataclass(frozen=True)
class HeldOut:
    """The photos to measure on, with their instances, and the names of these."""

    photos: tuple[AnnotatedPhoto, ...]
    names: tuple[str, ...]
    images: Path

    @classmethod
    def load(cls, shared: str | Path, limit: int | None = None) -> HeldOut:
        """The first ``limit`` (all by default) photos of ``splits/coco_val.txt``."""
        data = Path(shared) / "data"
        if not data.is_dir():
            raise FileNotFoundError(f"expected a folder that holds data/, got {shared}")
        wanted = read_photo_list(data / "splits" / "coco_val.txt")
        instances = data / "coco" / "instances.json"
        photos = islice(coco_photos(instances, wanted.__contains__), limit)
        return cls(tuple(photos), tuple(coco_names(instances)), data / "coco" / "images")

    def each(self, title: str) -> Iterator[tuple[np.ndarray, AnnotatedPhoto]]:
        """Every photo (H, W, 3) uint8 RGB with its annotations, with a progress bar."""
        for photo in tqdm(self.photos, desc=title, unit="photo"):
            yield load_image(self.images / photo.file_name), photo


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
    measurements = {
        "proposals": lambda: measure_proposals({"model": candidate.stage1(device)}, held_out),
        "superpixels": lambda: measure_proposals(
            {"baseline of proposals": load_proposer("superpixels")}, held_out
        ),
        "regions": lambda: measure_regions(candidate.stage2(device), held_out),
        "pixels": lambda: measure_pixels(candidate.segmentor(device), held_out),
        "voc": lambda: measure_voc(
            candidate.segmentor(device), TeacherDeepLab.load(Path(shared) / TEACHER), held_out
        ),
    }
    numbers: dict[str, Any] = {"model": candidate.model, "photos": len(held_out.photos)}
    return numbers | {part: measurements[part]() for part in PARTS if part in only}


def measure_proposals(proposers: dict[str, Proposer], held_out: HeldOut) -> dict[str, Any]:
    """Class-agnostic recall of each proposer."""
    return {
        who: proposal_recall(
            (_propose(proposer, image), _truth(photo)) for image, photo in held_out.each(who)
        )
        for who, proposer in proposers.items()
    }


def measure_regions(clip: MaskClip, held_out: HeldOut) -> dict[str, Any]:
    """Accuracy on the ground-truth masks, the model's and that of the commonest name."""
    said, true = [], []
    for image, photo in held_out.each("regions"):
        single = [one for one in photo.instances if not one.crowd]
        if single:
            masks = np.stack([one.mask for one in single])
            logits = classify_masks(clip, image, masks, held_out.names)
            said += logits.argmax(dim=1).tolist()
            true += [held_out.names.index(one.name) for one in single]
    commonest = Counter(true).most_common(1)[0][0] if true else 0
    constant = region_accuracy([commonest] * len(true), true, held_out.names)
    return {
        "model": asdict(region_accuracy(said, true, held_out.names)),
        f"always {held_out.names[commonest]}": asdict(constant),
    }


def measure_pixels(segmentor: Segmentor, held_out: HeldOut) -> dict[str, Any]:
    """Metrics over all names, the Segmentor's and those of the commonest name."""
    names = held_out.names
    commonest = commonest_label(held_out)
    said = score_labels(lambda image: segmentor.segment(image, names).labels, held_out, names)
    constant = score_labels(lambda image: np.full(image.shape[:2], commonest), held_out, names)
    return {"model": said, f"always {names[commonest]}": constant}


def measure_voc(segmentor: Segmentor, teacher: TeacherDeepLab, held_out: HeldOut) -> dict[str, Any]:
    """Metrics over the teacher's names, the Segmentor's and the teacher's, without background."""
    names = teacher.names
    said = score_labels(lambda image: segmentor.segment(image, names).labels, held_out, names)
    taught = score_labels(lambda image: teacher.segment(image)[0], held_out, names)
    return {"model": said, "DeepLab teacher": taught}


def commonest_label(held_out: HeldOut) -> int:
    """The index of the name that has most pixels."""
    pixels = np.zeros(len(held_out.names), dtype=np.int64)
    for photo in held_out.photos:
        labels = truth_labels(photo, held_out.names)
        pixels += np.bincount(labels[labels != IGNORE], minlength=len(pixels))
    return int(pixels.argmax())


def score_labels(
    segment: Callable[[np.ndarray], np.ndarray], held_out: HeldOut, names: Sequence[str]
) -> dict[str, Any]:
    """``segment``: (H, W, 3) uint8 RGB -> (H, W) indices into ``names``; its metrics."""
    confusion = Confusion(names, IGNORE)
    for image, photo in held_out.each(f"{len(names)} names"):
        confusion.add(segment(image), truth_labels(photo, names))
    return confusion.metrics()


def truth_labels(photo: AnnotatedPhoto, names: Sequence[str]) -> np.ndarray:
    """(H, W) int64 true index into ``names``, 255 where no instance of these lies uppermost."""
    single = [one for one in photo.instances if not one.crowd]
    labels = [names.index(one.name) if one.name in names else IGNORE for one in single]
    return paint_labels([one.mask for one in single], labels, photo.size_hw, IGNORE)


def table(numbers: dict[str, Any]) -> str:
    """The numbers as a Markdown table, a line per measurement and contestant."""
    lines = ["| measured | who | numbers (%) |", "|---|---|---|"]
    for part in PARTS:
        for who, metrics in numbers.get(part, {}).items():
            shown = ", ".join(f"{key} {metrics[key]:.1f}" for key in SUMMARY[part])
            counted = [f"{metrics[key]:,} {key}" for key in ("regions", "pixels") if key in metrics]
            lines.append(f"| {part} | {who} | {shown} {' '.join(counted)} |".replace("  ", " "))
    return "\n".join(lines)


@torch.no_grad()
def _propose(proposer: Proposer, image: np.ndarray) -> Proposals:
    return proposer.propose(image)


def _truth(photo: AnnotatedPhoto) -> Truth:
    single = [one for one in photo.instances if not one.crowd]
    masks = np.zeros((len(single), *photo.size_hw), dtype=bool)
    for index, instance in enumerate(single):
        masks[index] = instance.mask
    return Truth(masks, np.array([one.stated_area for one in single]))
