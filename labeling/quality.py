"""What a model is worth on the photos that nothing trains on (``splits/coco_val.txt``).

Protocol, all numbers in percent:

- *proposals*: class-agnostic recall of the photos' instances (``proposal.recall``), for the model's
  proposer and for superpixels with their default settings, largest regions first.
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

from labeling.annotations import (
    AnnotatedPhoto,
    coco_names,
    coco_photos,
    read_photo_list,
)
from labeling.teachers import TeacherDeepLab
from maskclip.checkpoint import load_clip, load_proposer
from maskclip.clip import MaskClip
from maskclip.evaluation import Confusion
from maskclip.images import load_image
from maskclip.region_accuracy import classify_masks, region_accuracy
from maskclip.segmentor import Segmentor
from proposal.proposals import Proposals, Proposer
from proposal.recall import Truth, proposal_recall

PARTS = ("proposals", "regions", "pixels", "voc")
IGNORE = 255
TEACHER = "mobilenetv2_100_voc_deeplab.safetensors"
SUMMARY = {  # measurement: the numbers of it that the table shows
    "proposals": ("AR@10", "AR@100", "best_overlap"),
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
    model: str,
    shared: str | Path,
    *,
    only: Sequence[str] = PARTS,
    limit: int | None = None,
    device: str = "cpu",
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Measure a model (packaged name or folder) -> for each of ``only``, numbers per contestant.

    ``overrides`` are settings such as ``clip.background=mean``.
    """
    held_out = HeldOut.load(shared, limit)
    numbers: dict[str, Any] = {"model": str(model), "photos": len(held_out.photos)}
    if "proposals" in only:
        proposer = load_proposer(model, device, _section(overrides, "proposer"))
        numbers["proposals"] = {
            "model": measure_proposals(proposer, held_out, "proposals"),
            "superpixels": measure_proposals(load_proposer("superpixels"), held_out, "superpixels"),
        }
    if "regions" in only:
        clip = load_clip(model, device, _section(overrides, "clip"))
        numbers["regions"] = measure_regions(clip, held_out)
    if "pixels" in only or "voc" in only:
        settings = [*overrides, "segmentor.background=none"]
        segmentor = Segmentor.from_pretrained(model, device=device, overrides=settings)
        if "pixels" in only:
            numbers["pixels"] = {
                "model": measure_segmentor(segmentor, held_out, held_out.names, "80 names"),
                **measure_constant(held_out),
            }
        if "voc" in only:
            teacher = TeacherDeepLab.load(Path(shared) / "weights" / TEACHER, device)
            numbers["voc"] = {
                "model": measure_segmentor(segmentor, held_out, teacher.names, "20 names"),
                "DeepLab teacher": measure_pixels(
                    lambda image: teacher.segment(image)[0], held_out, teacher.names, "teacher"
                ),
            }
    return numbers


def measure_proposals(proposer: Proposer, held_out: HeldOut, title: str) -> dict[str, float]:
    """Class-agnostic recall of a proposer."""
    return proposal_recall(
        (_propose(proposer, image), _truth(photo)) for image, photo in held_out.each(title)
    )


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


def measure_segmentor(
    segmentor: Segmentor, held_out: HeldOut, names: Sequence[str], title: str
) -> dict[str, Any]:
    """The metrics of a Segmentor that is given ``names``."""
    return measure_pixels(
        lambda image: segmentor.segment(image, names).labels, held_out, names, title
    )


def measure_constant(held_out: HeldOut) -> dict[str, dict[str, Any]]:
    """The metrics of saying everywhere the name that has most pixels."""
    pixels: Counter[str] = Counter()
    for photo in held_out.photos:
        labels = truth_labels(photo, held_out.names)
        for value in np.unique(labels[labels != IGNORE]):
            pixels[held_out.names[value]] += int((labels == value).sum())
    commonest = pixels.most_common(1)[0][0] if pixels else held_out.names[0]
    label = held_out.names.index(commonest)
    title = f"always {commonest}"
    metrics = measure_pixels(
        lambda image: np.full(image.shape[:2], label), held_out, held_out.names, title
    )
    return {title: metrics}


def measure_pixels(
    segment: Callable[[np.ndarray], np.ndarray],
    held_out: HeldOut,
    names: Sequence[str],
    title: str,
) -> dict[str, Any]:
    """``segment``: (H, W, 3) uint8 RGB -> (H, W) indices into ``names``; its metrics."""
    confusion = Confusion(names, IGNORE)
    for image, photo in held_out.each(title):
        confusion.add(segment(image), truth_labels(photo, names))
    return confusion.metrics()


def truth_labels(photo: AnnotatedPhoto, names: Sequence[str]) -> np.ndarray:
    """(H, W) int64 true index into ``names``, 255 where no instance of these lies uppermost."""
    labels = np.full(photo.size_hw, IGNORE, dtype=np.int64)
    single = [one for one in photo.instances if not one.crowd]
    for instance in sorted(single, key=lambda one: int(one.mask.sum()), reverse=True):
        known = instance.name in names
        labels[instance.mask] = names.index(instance.name) if known else IGNORE
    return labels


def table(numbers: dict[str, Any]) -> str:
    """The numbers as a Markdown table, a line per measurement and contestant."""
    lines = ["| measured | who | numbers (%) |", "|---|---|---|"]
    for part in PARTS:
        for who, metrics in numbers.get(part, {}).items():
            shown = ", ".join(f"{key} {metrics[key]:.1f}" for key in SUMMARY[part])
            counted = [f"{metrics[key]:,} {key}" for key in ("regions", "pixels") if key in metrics]
            lines.append(f"| {part} | {who} | {shown} {' '.join(counted)} |".replace("  ", " "))
    return "\n".join(lines)


def _section(overrides: Sequence[str], name: str) -> list[str]:
    """``clip.a=1`` -> ``a=1`` for the settings of one section."""
    return [each.removeprefix(f"{name}.") for each in overrides if each.startswith(f"{name}.")]


@torch.no_grad()
def _propose(proposer: Proposer, image: np.ndarray) -> Proposals:
    return proposer.propose(image)


def _truth(photo: AnnotatedPhoto) -> Truth:
    single = [one for one in photo.instances if not one.crowd]
    masks = np.zeros((len(single), *photo.size_hw), dtype=bool)
    for index, instance in enumerate(single):
        masks[index] = instance.mask
    return Truth(masks, np.array([one.stated_area for one in single]))
