"""Who says what the pixels of a photo are: a model, models of several settings, oracles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from maskclip.assemble import assemble, weigh_masks
from maskclip.background import Background
from maskclip.names import parse_names
from maskclip.region_names import RegionNamer
from maskclip.regions import mask_at_size
from maskclip.segmentation import Segmentation, as_array
from maskclip.segmentor import Segmentor
from maskclip.segmentor_config import SegmentorConfig
from maskclip.stopwatch import Stopwatch
from proposal.proposals import Proposals, propose_all

NOTHING = -1  # label of a pixel of which nothing was said


@dataclass(frozen=True)
class Photo:
    """A photo with what is true of it. H x W: its size."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    truth: np.ndarray  # (H, W) int64, index or ``ignore``
    stem: str


class Labeller(Protocol):
    """Gives every photo one label map for each setting that is tried."""

    def label(self, photos: Sequence[Photo]) -> list[list[np.ndarray]]:
        """B photos -> B lists of (H, W) int64, index into the names or -1 for nothing."""
        ...


@dataclass(frozen=True)
class ModelLabeller:
    """A Segmentor as it is."""

    segmentor: Segmentor
    names: tuple[str, ...]

    @cached_property
    def _original(self) -> np.ndarray:
        return original_labels(self.names)

    def label(self, photos: Sequence[Photo]) -> list[list[np.ndarray]]:
        """B photos -> B lists of one (H, W) int64."""
        results = self.segmentor.segment_batch(
            [photo.image for photo in photos], self.names, stems=[photo.stem for photo in photos]
        )
        return [[self._restore(result)] for result in results]

    def _restore(self, result: Segmentation) -> np.ndarray:
        said = result.labels != result.ignore
        return np.where(said, self._original[np.where(said, result.labels, 0)], NOTHING)


@dataclass(frozen=True)
class SettingsLabeller:
    """A Segmentor under several settings at once.

    Proposals are made once for all settings, CLIP sees them once for each mask threshold, smallest
    objectness and compat.
    """

    segmentor: Segmentor
    names: tuple[str, ...]
    settings: tuple[SegmentorConfig, ...]

    @torch.no_grad()
    def label(self, photos: Sequence[Photo]) -> list[list[np.ndarray]]:
        """B photos, S settings -> B lists of S (H, W) int64."""
        every_proposals = propose_all(
            self.segmentor.proposer, [p.image for p in photos], [p.stem for p in photos]
        )
        return [
            self._label(photo.image, proposals)
            for photo, proposals in zip(photos, every_proposals, strict=True)
        ]

    def _label(self, image: np.ndarray, proposals: Proposals) -> list[np.ndarray]:
        clip, encoded, maps = self.segmentor.clip, {}, []
        for config in self.settings:
            background = Background.parse(config.background)
            vocabulary, count = background.extend(self.names)
            texts = clip.encode_names(vocabulary.names)
            namer, watch = RegionNamer(clip, config), Stopwatch(clip.device)
            kept = proposals[proposals.scores >= config.min_objectness]
            dense = bool(config.dense_weight)
            key = (config.mask_threshold, config.min_objectness, config.compat, dense)
            if key not in encoded:
                encoded[key] = namer.encode(image, kept, watch)
            named = namer.name_encoded(kept, encoded[key], texts)
            masks = weigh_masks(kept, named.class_probs, config).to(clip.device)
            labels, confidence = assemble(named.class_probs, masks, image.shape[:2], named.dense)
            ignored = background.ignored(labels, confidence, count)
            maps.append(self._restore(labels, ignored))
        return maps

    def _restore(self, labels: Tensor, ignored: Tensor) -> np.ndarray:
        said = as_array(labels.masked_fill(ignored, 0), np.int64)
        return np.where(as_array(ignored, np.bool_), NOTHING, original_labels(self.names)[said])


@dataclass(frozen=True)
class TrueMasks:
    """Oracle: the true mask of every name in the photo, named by CLIP alone."""

    segmentor: Segmentor
    names: tuple[str, ...]
    ignore: int

    def label(self, photos: Sequence[Photo]) -> list[list[np.ndarray]]:
        """B photos -> B lists of one (H, W) int64."""
        return [self._label(photo) for photo in photos]

    def _label(self, photo: Photo) -> list[np.ndarray]:
        present = np.unique(photo.truth[photo.truth != self.ignore])
        masks = torch.from_numpy(photo.truth[None] == present[:, None, None]).float()  # (Q, H, W)
        ready = _Ready(Proposals(masks, torch.ones(len(masks))))
        config = replace(
            self.segmentor.config,
            fusion_weight=1.0,
            objectness_power=0.0,
            min_objectness=0.0,
            dense_weight=0.0,
        )
        segmentor = Segmentor(ready, self.segmentor.clip, config)
        return ModelLabeller(segmentor, self.names).label([photo])[0]


@dataclass(frozen=True)
class TrueClasses:
    """Oracle: the proposals, each named by the true name that it shares most pixels with.

    Proposals that share none with any name are left out.
    """

    segmentor: Segmentor
    names: tuple[str, ...]
    ignore: int

    @torch.no_grad()
    def label(self, photos: Sequence[Photo]) -> list[list[np.ndarray]]:
        """B photos -> B lists of one (H, W) int64."""
        every_proposals = propose_all(
            self.segmentor.proposer, [p.image for p in photos], [p.stem for p in photos]
        )
        pairs = zip(photos, every_proposals, strict=True)
        return [[self._label(photo.truth, proposals)] for photo, proposals in pairs]

    def _label(self, truth: np.ndarray, proposals: Proposals) -> np.ndarray:
        config = self.segmentor.config
        proposals = proposals[proposals.scores >= config.min_objectness]
        present = np.unique(truth[truth != self.ignore])  # (C,)
        if not len(present):
            return np.full(truth.shape, NOTHING)
        shared = shared_pixels(
            proposals.mask_probs, truth, present, config.mask_threshold
        )  # (Q, C)
        keep = shared.sum(axis=1) > 0
        one_hot = np.eye(len(present), dtype=np.float32)[shared[keep].argmax(axis=1)]
        class_probs = torch.from_numpy(one_hot).to(proposals.mask_probs.device)
        masks = weigh_masks(proposals[torch.from_numpy(keep)], class_probs, config)
        labels, _ = assemble(class_probs, masks, truth.shape)
        labels = as_array(labels, np.int64)
        return np.where(labels < 0, NOTHING, np.append(present, NOTHING)[labels])


def shared_pixels(
    mask_probs: Tensor, truth: np.ndarray, present: np.ndarray, threshold: float
) -> np.ndarray:
    """(Q, h, w), (H, W) int64, C labels -> (Q, C) pixels that each mask shares with each label."""
    shared = np.zeros((len(mask_probs), len(present)), dtype=np.int64)
    place = np.searchsorted(present, truth).clip(max=max(len(present) - 1, 0))
    known = np.isin(truth, present)
    for row, probs in enumerate(mask_probs):  # one at a time: memory
        mask = mask_at_size(probs, threshold, truth.shape)
        shared[row] = np.bincount(place[mask & known], minlength=len(present))
    return shared


def original_labels(names: Sequence[str]) -> np.ndarray:
    """C names -> for each that the Segmentor keeps, its first label among them.

    The Segmentor merges names that are given twice, which moves the indices of all that follow.
    """
    kept, labels = parse_names(names).names, []
    for label, name in enumerate(names):
        if len(labels) < len(kept) and name.strip() == kept[len(labels)]:
            labels.append(label)
    return np.array(labels, dtype=np.int64)


@dataclass(frozen=True)
class _Ready:
    """A proposer that has its answer."""

    proposals: Proposals

    def propose(self, image: np.ndarray) -> Proposals:  # noqa: ARG002
        """(H, W, 3) uint8 RGB -> Proposals."""
        return self.proposals
