"""An endless, repeatable stream of regions with their nouns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from maskclip.adaptation.config import TrainConfig
from maskclip.adaptation.context import ContextBank
from maskclip.adaptation.features import FeatureBank, spread_cells
from maskclip.adaptation.region_crops import RegionCrops
from proposal.training_batches import load_shares


@dataclass(frozen=True)
class Example:
    """One region: its crop, or what the trunk made of it."""

    crop: Tensor  # (3, S, S) RGB in 0-255, or (F, h, w) features
    crop_mask: Tensor  # (S, S) bool
    noun: int
    context: Tensor | None = None  # (2, F) of the whole photo, for towers that take it
    hint: Tensor | None = None  # (D,) unit length, what a classifier makes of the region


@dataclass(frozen=True)
class Batch:
    """N regions: their crops, or what the trunk made of them.

    F: the trunk's channels, h x w: its grid, S: side of a crop.
    """

    crops: Tensor  # (N, 3, S, S) RGB in 0-255, or (N, F, h, w) features
    crop_masks: Tensor  # (N, S, S) bool
    nouns: Tensor  # (N,) int64, index into the table's nouns
    context: Tensor | None = None  # (N, 2, F) of the whole photos, for towers that take it
    hints: Tensor | None = None  # (N, D) unit length, what a classifier makes of the regions

    def pin_memory(self) -> Batch:
        """The same in memory that a GPU copies from at once; a DataLoader asks for it."""
        parts = vars(self).values()
        return Batch(*(None if part is None else part.pin_memory() for part in parts))


class PairStream(Dataset):
    """Example number i of a training, always the same for the same seed.

    So a resumed training, or one that is shared by several processes, sees what one without
    interruption sees.
    """

    def __init__(
        self,
        crops: RegionCrops,
        config: TrainConfig,
        examples: int,
        context: ContextBank | None = None,
        hints: Tensor | None = None,
    ) -> None:
        """Where regions are cut; the seed and dropout; the examples of the whole training.

        ``hints``: (R, D) of all regions, or none.
        """
        self.crops = crops
        self.context = context
        self.hints = hints
        self.table = crops.table
        self.config = config
        self.examples = examples
        self._cumulated = np.cumsum(self.table.weights())

    def __len__(self) -> int:
        return self.examples

    def __getitem__(self, number: int) -> Example:
        """Example ``number`` of the training."""
        varied = np.random.default_rng((self.config.seed, number))
        place = varied.random() * self._cumulated[-1]
        pair = int(np.searchsorted(self._cumulated, place, side="right"))
        pair = min(pair, len(self.table) - 1)
        region = int(self.table.pair_region[pair])
        crop, crop_mask = self.load(region, varied)
        if varied.random() < self.config.mask_dropout:
            crop_mask = torch.ones_like(crop_mask)
        context = None
        if self.context is not None:
            context = self.context.draw(region, self.config.context_dropout, varied)
        hint = None if self.hints is None else self.hints[region]
        return Example(crop, crop_mask, int(self.table.pair_noun[pair]), context, hint)

    def load(self, region: int, varied: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Index of a region -> its crop, varied anew, and the crop's mask (S, S)."""
        return self.crops.cut(region, varied)


class FeatureStream(PairStream):
    """Examples of cached trunk features, mirrored at random, whole channels dropped."""

    def __init__(
        self,
        crops: RegionCrops,
        config: TrainConfig,
        examples: int,
        bank: FeatureBank,
        context: ContextBank | None = None,
        hints: Tensor | None = None,
    ) -> None:
        super().__init__(crops, config, examples, context, hints)
        self.bank = bank

    def load(self, region: int, varied: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Index of a region -> (F, h, w) features and (S, S) mask."""
        features, inside = self.bank.draw(np.array([region]), varied)
        if self.crops.config.flip and varied.random() < 0.5:
            features, inside = features.flip(-1), inside.flip(-1)
        if self.config.dropout:
            features = features * self._kept_channels(features, varied)
        return features[0], spread_cells(inside, self.crops.side)[0]

    def _kept_channels(self, features: Tensor, varied: np.random.Generator) -> Tensor:
        """(1, F, h, w) -> (1, F, 1, 1): 0 for dropped channels, else what makes up for them."""
        kept = varied.random((*features.shape[:2], 1, 1)) >= self.config.dropout
        return torch.from_numpy(kept).to(features) / (1 - self.config.dropout)


def stack(examples: Sequence[Example]) -> Batch:
    """N examples -> their batch, its crops with the channels last, as convolutions like it."""
    crops = torch.stack([example.crop for example in examples])
    return Batch(
        crops.contiguous(memory_format=torch.channels_last),
        torch.stack([example.crop_mask for example in examples]),
        torch.tensor([example.noun for example in examples], dtype=torch.int64),
        None if examples[0].context is None else torch.stack([e.context for e in examples]),
        None if examples[0].hint is None else torch.stack([e.hint for e in examples]),
    )


def load_batches(stream: PairStream, start: int) -> DataLoader:
    """Batches from step ``start`` on, this process's share of each."""
    config = stream.config
    return load_shares(stream, config.loop(), start, workers=config.workers, collate=stack)
