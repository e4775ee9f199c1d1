"""What a hybrid's frozen trunk makes of the training crops, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from maskclip.adaptation.disk_cache import cache_key
from maskclip.adaptation.region_crops import RegionCrops
from maskclip.clip import MaskClip
from maskclip.hybrid import hybrid_trunk

logger = logging.getLogger(__name__)
CHUNK = 32  # crops in one forward of the trunk


@dataclass(frozen=True)
class FeatureBank:
    """Trunk features of the crops of R regions, one or more views of each.

    N: crops, F: channels, h x w: the trunk's grid, S: side of a crop.
    """

    features: tuple[NDArray[np.float16], ...]  # per source (R_s, views, F, h, w), on disk
    inside: tuple[NDArray[np.bool_], ...]  # per source (R_s, views, h, w), cells in the mask
    source: NDArray[np.int64]  # (R,)
    place: NDArray[np.int64]  # (R,) index within the source

    def draw(
        self, regions: NDArray[np.int64], varied: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Indices of N regions -> (N, F, h, w) float and (N, h, w) bool, a random view of each."""
        features, inside = [], []
        for region in regions:
            source, place = self.source[region], self.place[region]
            view = varied.integers(self.features[source].shape[1])
            features.append(self.features[source][place, view])
            inside.append(self.inside[source][place, view])
        return torch.from_numpy(np.stack(features)).float(), torch.from_numpy(np.stack(inside))


def spread_cells(inside: Tensor, side: int) -> Tensor:
    """(N, h, w) bool -> (N, S, S) bool crop masks whose cells are inside as given."""
    n, h, w = inside.shape
    cells = inside[:, :, None, :, None].expand(n, h, side // h, w, side // w)
    return cells.reshape(n, h * (side // h), w * (side // w))


def load_bank(crops: RegionCrops, clip: MaskClip, seed: int) -> FeatureBank:
    """The features of all regions of the crops' table, from ``data.cache`` or computed now."""
    table, config = crops.table, crops.config
    place = np.zeros(len(table.regions), dtype=np.int64)
    features, inside = [], []
    trunk_sha256 = fingerprint_trunk(clip)
    for source in range(len(table.sources)):
        own = np.flatnonzero(table.region_source == source)
        place[own] = np.arange(len(own))
        key = _key(crops, source, seed, trunk_sha256)
        folder = Path(config.cache)
        paths = folder / f"{key}.features.npy", folder / f"{key}.inside.npy"
        if not all(path.is_file() for path in paths):
            _compute(crops, own, clip, paths, views=table.sources[source].views, seed=seed)
        features.append(np.load(paths[0], mmap_mode="r"))
        inside.append(np.load(paths[1], mmap_mode="r"))
    return FeatureBank(tuple(features), tuple(inside), table.region_source, place)


def fingerprint_trunk(clip: MaskClip) -> str:
    """SHA-256 of the weights of a hybrid's trunk."""
    return fingerprint_weights(hybrid_trunk(clip.tower.visual))


def fingerprint_weights(module: nn.Module) -> str:
    """SHA-256 of a module's weights and their names; zeros count without their signs.

    A running average of a frozen -0.0 is 0.0, and what is computed with it the same.
    """
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update((value.detach().cpu().contiguous() + 0).numpy().tobytes())
    return digest.hexdigest()


def _key(crops: RegionCrops, source: int, seed: int, trunk_sha256: str) -> str:
    spec, config = crops.table.sources[source], crops.config
    parts = {
        "regions": crops.table.fingerprint(source),
        "trunk": trunk_sha256,
        "crops": crops.spec,
        "vary": [spec.views, spec.area_range, config.ratio_range, config.brightness, config.flip],
        "seed": seed,
    }
    return cache_key(parts)


@torch.no_grad()
def _compute(
    crops: RegionCrops,
    regions: NDArray[np.int64],
    clip: MaskClip,
    paths: tuple[Path, Path],
    *,
    views: int,
    seed: int,
) -> None:
    """Write both files; the first view of each region is the plain crop, unless it is alone."""
    grid, folder = clip.tower.tokens.grid, paths[0].parent
    folder.mkdir(parents=True, exist_ok=True)
    drafts = [path.with_suffix(".part") for path in paths]
    probe = clip.tower.trunk_features(torch.zeros(1, 3, clip.side, clip.side, device=clip.device))
    shape = (len(regions), views, *probe.shape[1:])
    features = open_memmap(drafts[0], "w+", np.float16, shape)
    inside = open_memmap(drafts[1], "w+", bool, (len(regions), views, *grid))
    varied = np.random.default_rng(seed)
    starts = range(0, len(regions), CHUNK)
    for start in tqdm(starts, desc="trunk features", unit_scale=CHUNK, unit=" regions"):
        for view in range(views):
            some = regions[start : start + CHUNK]
            cut, masks = crops.cut_many(some, varied if view or views == 1 else None)
            out = clip.tower.trunk_features(clip.normalise(cut.to(clip.device)))
            rows = slice(start, start + len(some))
            features[rows, view] = out.half().cpu().numpy()
            inside[rows, view] = cells_inside(masks, grid).numpy()
    features.flush()
    inside.flush()
    for draft, path in zip(drafts, paths, strict=True):
        draft.replace(path)


def cells_inside(crop_masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """(N, S, S) bool -> (N, h, w) bool: cells with any pixel of the mask."""
    return F.adaptive_max_pool2d(crop_masks[:, None].float(), grid)[:, 0] > 0
