"""Endless batches of regions with their nouns, the same ones after a resume."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.utils import comm
from numpy.typing import NDArray
from torch import Tensor

from maskclip.adaptation.config import TrainConfig
from maskclip.adaptation.features import FeatureBank, spread_cells
from maskclip.adaptation.region_crops import RegionCrops


@dataclass(frozen=True)
class Batch:
    """N regions: their crops, or what the trunk made of them.

    F: the trunk's channels, h x w: its grid, S: side of a crop.
    """

    crops: Tensor  # (N, 3, S, S) RGB in 0-255, or (N, F, h, w) features
    crop_masks: Tensor  # (N, S, S) bool
    nouns: Tensor  # (N,) int64, index into the table's nouns
    are_features: bool = False


class PairBatches:
    """Draws batches of pairs; each iteration has its own random numbers."""

    def __init__(self, crops: RegionCrops, config: TrainConfig, first: int = 0) -> None:
        """Where regions are cut; the size, seed and dropout of batches; the first iteration."""
        self.crops = crops
        self.table = crops.table
        self.config = config
        self.first = first
        self._cumulated = np.cumsum(self.table.weights())

    def __iter__(self) -> Iterator[Batch]:
        iteration, world = self.first, comm.get_world_size()
        while True:
            seed = (self.config.seed, iteration * world + comm.get_rank())
            varied = np.random.default_rng(seed)
            draws = varied.random(self.config.batch_size // world) * self._cumulated[-1]
            pairs = np.searchsorted(self._cumulated, draws, side="right")
            yield self.load(np.minimum(pairs, len(self.table) - 1), varied)
            iteration += 1

    def load(self, pairs: NDArray[np.int64], varied: np.random.Generator) -> Batch:
        """Indices of N pairs -> their batch."""
        raise NotImplementedError

    def _drop_masks(self, crop_masks: Tensor, varied: np.random.Generator) -> Tensor:
        """(N, S, S) -> (N, S, S), some of them all inside."""
        dropped = torch.from_numpy(varied.random(len(crop_masks)) < self.config.mask_dropout)
        return crop_masks | dropped[:, None, None]

    def _nouns(self, pairs: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self.table.pair_noun[pairs])


class CropBatches(PairBatches):
    """Batches of crops, cut when they are asked for."""

    def load(self, pairs: NDArray[np.int64], varied: np.random.Generator) -> Batch:
        """Indices of N pairs -> their batch, each crop varied anew."""
        crops, crop_masks = self.crops.cut_many(self.table.pair_region[pairs], varied)
        return Batch(crops, self._drop_masks(crop_masks, varied), self._nouns(pairs))


class FeatureBatches(PairBatches):
    """Batches of cached trunk features, mirrored at random, whole channels dropped."""

    def __init__(
        self, crops: RegionCrops, bank: FeatureBank, config: TrainConfig, first: int = 0
    ) -> None:
        super().__init__(crops, config, first)
        self.bank = bank

    def load(self, pairs: NDArray[np.int64], varied: np.random.Generator) -> Batch:
        """Indices of N pairs -> their batch."""
        features, inside = self.bank.draw(self.table.pair_region[pairs], varied)
        if self.crops.config.flip:
            mirrored = torch.from_numpy(varied.random(len(pairs)) < 0.5)
            features[mirrored] = features[mirrored].flip(-1)
            inside[mirrored] = inside[mirrored].flip(-1)
        if self.config.dropout:
            features = features * self._kept_channels(features, varied)
        crop_masks = self._drop_masks(spread_cells(inside, self.crops.side), varied)
        return Batch(features, crop_masks, self._nouns(pairs), are_features=True)

    def _kept_channels(self, features: Tensor, varied: np.random.Generator) -> Tensor:
        """(N, F, h, w) -> (N, F, 1, 1): 0 for dropped channels, else what makes up for them."""
        kept = varied.random((*features.shape[:2], 1, 1)) >= self.config.dropout
        return torch.from_numpy(kept).to(features) / (1 - self.config.dropout)
