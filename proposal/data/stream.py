"""An endless, repeatable stream of training crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from proposal.criterion import Counts
from proposal.data.augment import Crop, augment, paste
from proposal.data.photo import IGNORED, Photo
from proposal.data.source_config import DataConfig
from proposal.data.sources import Source
from proposal.matcher import Target

UNBOUNDED = 1 << 30  # a short side that shrinks nothing


@dataclass(frozen=True)
class Batch:
    """B crops of one size."""

    images: Tensor  # (B, 3, S, S) uint8 RGB
    targets: list[Target]
    counts: Counts | None = None  # of the whole step, if this is but a part of it

    def pin_memory(self) -> Batch:
        """The same in memory that a GPU can read on its own."""
        return replace(self, images=self.images.pin_memory())


class CropStream(Dataset):
    """Crop number i, always the same for the same seed: a resumed training sees what it missed.

    Photos are decoded once per worker and then kept, unless ``data.cache_short_side`` is 0.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        config: DataConfig,
        *,
        seed: int,
        batches: int,
        batch_size: int,
    ) -> None:
        self.sources = sources
        self.config = config
        self.seed = seed
        self.batches = batches  # of the whole training, by which the sides are shared out
        self.batch_size = batch_size  # all crops of a batch have the same side
        self.kept: dict[tuple[int, int], Photo] = {}
        cv2.setNumThreads(0)  # workers are processes; threads inside them only get in the way

    def __len__(self) -> int:
        return self.batches * self.batch_size

    def __getitem__(self, number: int) -> Crop:
        """Crop ``number`` of the training."""
        rng = np.random.default_rng([self.seed, number])
        sides = self.config.sides
        side = sides[number // self.batch_size * len(sides) // self.batches]
        crop = self._draw(rng, side, self.sources)
        donors = [source for source in self.sources if source.config.paste]
        if donors and rng.random() < self.config.augment.paste:
            crop = paste(crop, self._draw(rng, side, donors), self.config.augment, rng)
        return crop

    def _draw(self, rng: np.random.Generator, side: int, sources: Sequence[Source]) -> Crop:
        weights = np.array([source.config.weight for source in sources])
        source = sources[rng.choice(len(sources), p=weights / weights.sum())]
        photo = self._load(source, int(rng.integers(len(source.photos))))
        return augment(photo, side, self.config.augment, rng)

    def _load(self, source: Source, index: int) -> Photo:
        limit = self.config.cache_short_side
        if not limit:
            return source.load(index, UNBOUNDED)
        key = (id(source), index)
        if key not in self.kept:
            self.kept[key] = source.load(index, limit)
        return self.kept[key]


def stack(crops: Sequence[Crop]) -> Batch:
    """B crops of one side -> a Batch."""
    images = np.stack([crop.image for crop in crops]).transpose(0, 3, 1, 2)  # (B, 3, S, S)
    return Batch(torch.from_numpy(np.ascontiguousarray(images)), [_target(crop) for crop in crops])


def _target(crop: Crop) -> Target:
    known = crop.labels != IGNORED
    masks = torch.from_numpy(np.ascontiguousarray(crop.masks[known]))  # (M, S, S)
    ignored = None
    if not known.all():
        ignored = torch.from_numpy(crop.masks[~known].any(axis=0))  # (S, S)
    return Target(masks, torch.from_numpy(crop.labels[known]), ignored)
