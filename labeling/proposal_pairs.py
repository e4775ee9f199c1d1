"""Pairs of a model's own proposals with the names that label maps give them.

What is cropped later are proposals: parts of things, things with a rim of background, several at
once. A CLIP that is taught on true masks alone has never seen any of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from labeling.label_folder import RUN, check_same_run
from labeling.named_folder import UNLABELLED
from maskclip.images import load_image
from maskclip.names import read_class_file
from maskclip.pairs import (
    SUMMARY,
    Pair,
    is_complete,
    shard_name,
    write_pairs,
    write_run,
    write_summary,
)
from maskclip.regions import mask_at_size
from maskclip.segmentor import Segmentor
from proposal.data.label_maps import LabelPhoto, read_label_maps
from proposal.duplicates import distinct_masks

SHARD_PHOTOS = 50  # named between two writes


@dataclass(frozen=True)
class NamingConfig:
    """Which proposals get a name.

    Raises:
        ValueError: a value outside its range.
    """

    min_purity: float = 0.7  # share of the mask's pixels that have the name
    min_objectness: float = 0.05
    min_area: float = 0.001  # of the photo
    duplicate_iou: float = 0.85  # of two proposals that overlap so much the better one is kept

    def __post_init__(self) -> None:
        if not 0.5 < self.min_purity <= 1:  # below, two names could have a claim
            raise ValueError(f"min_purity must be above 0.5, at most 1, got {self.min_purity}")
        for name in ("min_objectness", "min_area", "duplicate_iou"):
            if not 0 <= vars(self)[name] <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {vars(self)[name]}")


def is_named(output: str | Path, told: dict[str, Any]) -> bool:
    """Whether a folder of pairs is complete and was made as ``told``.

    Raises:
        ValueError: it was made, or begun, otherwise, or what tells so is damaged.
    """
    run = Path(output) / RUN
    if not run.is_file():
        return False
    check_same_run(run, {"config": told})
    return is_complete(output)


def name_proposals(
    segmentor: Segmentor,
    named: str | Path,
    output: str | Path,
    config: NamingConfig,
    told: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A folder of photos with label PNGs (``labeling.named_folder``) -> pairs, and their summary.

    What a stopped run of the same settings wrote, 50 photos a shard, is kept. The pairs' ``score``
    is the proposal's objectness, their ``probability`` its purity. ``told`` goes into
    ``run.json``; by default the config.

    Raises:
        FileNotFoundError: the folder lacks its names, its maps' folder or its photos'.
        ValueError: ``output`` holds another run; there are no maps, or one has no photo, another
            size, or a value without a name.
        OSError: a map or a photo cannot be read.
    """
    named, output = Path(named), Path(output)
    if not (named / "names.txt").is_file():
        raise FileNotFoundError(
            f"expected a folder with images/, labels/ and names.txt, got {named}"
        )
    names = tuple(read_class_file(named / "names.txt"))
    maps = read_label_maps(named / "labels", named / "images", names, ignore_label=UNLABELLED)
    told = asdict(config) if told is None else told
    begun = (output / RUN).is_file()
    if begun:
        check_same_run(output / RUN, {"config": told, "maps": len(maps)})
    with tqdm(total=len(maps), desc=named.name, unit="photo") as bar:
        for shard, start in enumerate(range(0, max(len(maps), 1), SHARD_PHOTOS)):
            some = maps[start : start + SHARD_PHOTOS]
            if begun and (output / shard_name(shard)).is_file():
                bar.update(len(some))
                continue
            rows = []
            for photo in some:
                rows += _name(segmentor, photo, names, config)
                bar.update()
            if not begun:
                _begin(output, named / "images", told, len(maps))
                begun = True
            write_pairs(output, shard, rows)
    return write_summary(output)


def _begin(output: Path, images: Path, told: dict[str, Any], maps: int) -> None:
    """Say in ``run.json`` what is being made, and drop shards of which nothing says so."""
    for stale in [*output.glob("pairs-*.parquet"), *output.glob(SUMMARY)]:
        stale.unlink()
    output.mkdir(parents=True, exist_ok=True)
    write_run(output, images, told, maps=maps)


def _name(
    segmentor: Segmentor, photo: LabelPhoto, names: Sequence[str], config: NamingConfig
) -> Iterator[Pair]:
    image, labels = load_image(photo.path), photo.values()
    if labels.shape != image.shape[:2]:
        raise ValueError(
            f"{photo.labels} must be {image.shape[:2]} like its photo, got {labels.shape}"
        )
    for proposal, score, mask in _masks(segmentor, image, config):
        label, purity = purest(mask, labels)
        if label is not None and purity >= config.min_purity:
            yield Pair.from_mask(
                mask,
                image=photo.path.name,
                noun=names[label],
                proposal=proposal,
                score=score,
                probability=purity,
            )


@torch.no_grad()
def _masks(
    segmentor: Segmentor, image: np.ndarray, config: NamingConfig
) -> Iterator[tuple[int, float, np.ndarray]]:
    """(H, W, 3) uint8 RGB -> index, objectness and (H, W) bool of the proposals that may count."""
    proposals = segmentor.proposer.propose(image)
    threshold = segmentor.config.mask_threshold
    binary: Tensor = proposals.mask_probs > threshold  # (Q, h, w)
    large = binary.flatten(1).float().mean(dim=1) >= config.min_area
    wanted = (large & (proposals.scores >= config.min_objectness)).nonzero()[:, 0]
    kept = wanted[distinct_masks(binary[wanted], proposals.scores[wanted], config.duplicate_iou)]
    for index in kept.tolist():
        mask = mask_at_size(proposals.mask_probs[index], threshold, image.shape[:2])
        if mask.any():
            yield index, float(proposals.scores[index]), mask


def purest(mask: np.ndarray, labels: np.ndarray) -> tuple[int | None, float]:
    """(H, W) bool with a pixel, (H, W) int64 map -> the label most pixels have, and their share.

    Pixels without a label count against it; None where no pixel has one.
    """
    counts = np.bincount(labels[mask], minlength=UNLABELLED + 1)
    label = int(counts[:UNLABELLED].argmax())
    if not counts[label]:
        return None, 0.0
    return label, float(counts[label] / counts.sum())
