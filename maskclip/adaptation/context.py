"""What the photos' trunk sees around the regions of a training, computed once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from maskclip.adaptation.disk_cache import load_or_compute
from maskclip.adaptation.features import fingerprint_weights
from maskclip.adaptation.pair_table import PairTable
from maskclip.clip import MaskClip
from maskclip.images import load_image


@dataclass(frozen=True)
class ContextBank:
    """The context (R, 2, F) float16 of the R regions of a table. F: channels of the trunk."""

    context: NDArray[np.float16]

    def draw(self, region: int, left_out: float, varied: np.random.Generator) -> Tensor:
        """Index of a region -> (2, F); in a share of the cases zeros."""
        if varied.random() < left_out:
            return torch.zeros(self.context.shape[1:])
        return torch.from_numpy(self.context[region].astype(np.float32))

    def take(self, regions: NDArray[np.int64]) -> Tensor:
        """Indices of N regions -> (N, 2, F)."""
        return torch.from_numpy(self.context[regions].astype(np.float32))


def load_context(table: PairTable, clip: MaskClip, cache: str = "") -> ContextBank | None:
    """The context of all regions, from the folder ``cache`` or computed now; none if unused."""
    if clip.photo_context is None:
        return None
    kept = []
    trunk_sha256 = fingerprint_weights(clip.photo_context)
    for source in range(len(table.sources)):
        own = np.flatnonzero(table.region_source == source)
        parts = [table.fingerprint(source), trunk_sha256]
        kept.append(load_or_compute(cache, parts, "context", partial(_compute, table, own, clip)))
    places = np.concatenate([np.flatnonzero(table.region_source == s) for s in range(len(kept))])
    context = np.concatenate(kept)
    everything = np.empty_like(context)
    everything[places] = context
    return ContextBank(everything)


def _compute(table: PairTable, regions: NDArray[np.int64], clip: MaskClip) -> NDArray[np.float16]:
    """Each photo is read once -> (R_s, 2, F) in the order of ``regions``."""
    by_photo = defaultdict(list)
    for place, region in enumerate(regions):
        by_photo[table.photo(int(region))].append(place)
    found: list[Tensor | None] = [None] * len(regions)
    for path, places in tqdm(by_photo.items(), desc="photo context", unit="photo"):
        seen = clip.see(load_image(path))
        for place in places:
            mask = torch.from_numpy(table.mask(int(regions[place])))[None]
            found[place] = clip.context(seen, mask)[0].half().cpu()
    if not found:
        return np.zeros((0, *clip.photo_context.shape), dtype=np.float16)
    return torch.stack(found).numpy()
