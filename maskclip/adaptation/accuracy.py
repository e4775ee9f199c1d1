"""How often a CLIP names given regions rightly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from maskclip.adaptation.config import DataConfig
from maskclip.adaptation.context import load_context
from maskclip.adaptation.pair_table import PairTable
from maskclip.adaptation.region_crops import RegionCrops
from maskclip.clip import MaskClip
from maskclip.region_accuracy import region_accuracy

CHUNK = 32


@torch.no_grad()
def classify_regions(clip: MaskClip, table: PairTable, names: Sequence[str]) -> np.ndarray:
    """The plain crops of all M pairs of a table -> (M,) int64, index into the C names."""
    crops = RegionCrops(table, clip, DataConfig())
    text_embeddings = clip.encode_nouns(tuple(names))  # (C, D)
    training = clip.training
    clip.eval()
    context = load_context(table, clip)
    best = []
    for start in range(0, len(table.regions), CHUNK):
        regions = np.arange(start, min(start + CHUNK, len(table.regions)))
        seen = None if context is None else context.take(regions)
        embeddings = clip.encode_regions(*crops.cut_many(regions, None), seen)  # (N, D)
        best.append((embeddings @ text_embeddings.mT).argmax(dim=1).cpu().numpy())
    clip.train(training)
    return np.concatenate(best)[table.pair_region]


def accuracy(
    clip: MaskClip, table: PairTable, names: Sequence[str] | None = None
) -> dict[str, float]:
    """top1 and mean_per_class (over the nouns that occur), in percent, among C names.

    ``names`` defaults to the table's nouns; those that are not among them are added.
    """
    names = list(dict.fromkeys([*(names or ()), *table.nouns]))
    true = [names.index(table.nouns[noun]) for noun in table.pair_noun]
    found = region_accuracy(classify_regions(clip, table, names), true, names)
    return {"top1": found.top1, "mean_per_class": found.mean_per_class}
