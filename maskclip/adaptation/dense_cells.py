"""Cells of photos' maps with the names of their pixels, read once."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.utils import comm
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from maskclip.adaptation.dense_config import DenseTraining, LabelSource
from maskclip.adaptation.features import fingerprint_weights
from maskclip.clip import MaskClip
from maskclip.images import load_image
from maskclip.names import read_class_file
from maskclip.unseen_words import fold_noun
from proposal.data.label_maps import read_label_maps
from proposal.data.regions import read_map
from proposal.data.vocabulary import readable
from proposal.training_record import fingerprint
from proposal.whole_file import open_whole

logger = logging.getLogger(__name__)
UNNAMED = -1


class CellBatch(NamedTuple):
    """n cells."""

    cells: Tensor  # (n, F)
    whole: Tensor  # (n, F), the means of their photos' maps
    nouns: Tensor  # (n,) int64, -1 = none is known


@dataclass(frozen=True)
class SourceCells:
    """The cells of one source. n: cells, P: photos, F: channels of the map."""

    cells: NDArray[np.float16]  # (n, F)
    whole: NDArray[np.float16]  # (P, F)
    photo: NDArray[np.int64]  # (n,)
    label: NDArray[np.int64]  # (n,) index into the source's names, -1 = none


@dataclass(frozen=True)
class Cells:
    """The cells of all sources, with K nouns in common."""

    sources: tuple[SourceCells, ...]
    weights: tuple[float, ...]  # of the sources
    nouns: tuple[str, ...]  # K
    number: tuple[NDArray[np.int64], ...]  # of each source's labels in nouns; its last entry is -1

    def batches(self, config: DenseTraining, start: int) -> Iterator[CellBatch]:
        """This process's share of the batches from step ``start`` on, by the seed."""
        share = np.array(self.weights) / sum(self.weights)
        train, world, rank = config.train, comm.get_world_size(), comm.get_rank()
        # Many cells of few photos: as many cells of all photos were learned by heart sooner
        photos = train.batch_size // train.cells_per_photo
        for step in range(start, train.steps):
            rng = np.random.default_rng([train.seed, step])
            chosen = rng.choice(len(share), size=photos, p=share)
            draws = [self._draw(source, train.cells_per_photo, rng) for source in chosen]
            yield self._take(list(zip(chosen, draws, strict=True))[rank::world])

    def _draw(self, index: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """A photo of that source -> up to ``count`` of its cells."""
        source = self.sources[index]
        photo = rng.integers(len(source.whole))
        first, last = np.searchsorted(source.photo, (photo, photo + 1))
        return first + rng.permutation(last - first)[:count]

    def _take(self, draws: list[tuple[int, NDArray[np.int64]]]) -> CellBatch:
        """Sources with rows of theirs -> n cells."""
        parts = []
        for index, rows in draws:
            source = self.sources[index]
            nouns = self.number[index][source.label[rows]]
            parts.append((source.cells[rows], source.whole[source.photo[rows]], nouns))
        cells, whole, nouns = (np.concatenate(column) for column in zip(*parts, strict=True))
        return CellBatch(
            torch.from_numpy(cells.astype(np.float32)),
            torch.from_numpy(whole.astype(np.float32)),
            torch.from_numpy(nouns),
        )

    def shares(self) -> NDArray[np.float64]:
        """(K,): which share of all cells that are drawn and have a name has each."""
        found = np.zeros(len(self.nouns))
        for source, weight, number in zip(self.sources, self.weights, self.number, strict=True):
            nouns = number[source.label]
            counts = np.bincount(nouns[nouns >= 0], minlength=len(found))
            found += weight * counts / max(1, len(nouns))
        return found / max(found.sum(), np.finfo(float).tiny)


def read_cells(clip: MaskClip, config: DenseTraining, leave_out: Collection[str]) -> Cells:
    """Look at all photos once; ``leave_out``: folded nouns that cells are not to have.

    Raises:
        FileNotFoundError: a folder or photo is missing.
        ValueError: there are no sources, or one is not what it should be.
    """
    if not config.data.sources:
        raise ValueError("a dense head needs data to learn from: set data.sources")
    names = [read_names(source) for source in config.data.sources]
    kept = {name for each in names for name in each if fold_noun(name) not in leave_out}
    nouns = tuple(sorted(kept))
    place = {noun: index for index, noun in enumerate(nouns)}
    number = [np.array([place.get(name, UNNAMED) for name in each] + [UNNAMED]) for each in names]
    sources = [read_source_cells(clip, source, config) for source in config.data.sources]
    count = sum(len(each.label) for each in sources)
    logger.info("%d cells with %d nouns", count, len(nouns))
    weights = tuple(source.weight for source in config.data.sources)
    return Cells(tuple(sources), weights, nouns, tuple(number))


def read_names(source: LabelSource) -> list[str]:
    """The source's names in the order of its labels, the first synonym of each.

    Raises:
        ValueError, FileNotFoundError: as ``read_class_file``.
    """
    return [readable(name.split("|")[0]) for name in read_class_file(source.names)]


def read_source_cells(clip: MaskClip, source: LabelSource, config: DenseTraining) -> SourceCells:
    """A source's cells, from ``data.cache`` or computed now."""
    folder, count = config.data.cache, config.data.cells
    trunk_sha256 = fingerprint_weights(clip.photo_context)
    what = [fingerprint_source(source), source.first_label, source.ignore_label]
    key = hashlib.sha256(json.dumps([what, count, trunk_sha256]).encode()).hexdigest()[:24]
    path = Path(folder) / f"{key}.cells.npz" if folder else None
    if path is not None and path.is_file():
        with np.load(path) as stored:
            return SourceCells(**stored)
    found = _look(clip, source, count)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_whole(path) as file:
            np.savez(file, **vars(found))
    return found


def fingerprint_cells(config: DenseTraining) -> dict[str, Any]:
    """What the training's data are, by source."""
    return {
        f"data.sources.{number} ({source.title})": fingerprint_source(source)
        for number, source in enumerate(config.data.sources)
    }


def fingerprint_source(source: LabelSource) -> dict[str, Any]:
    """What a source's data are: see ``training_record.fingerprint``."""
    return fingerprint([Path(source.names)], sorted(Path(source.labels).glob("*.png")))


def _look(clip: MaskClip, source: LabelSource, count: int) -> SourceCells:
    names = read_names(source)
    photos = read_label_maps(
        Path(source.labels),
        Path(source.images),
        tuple(names),
        first_label=source.first_label,
        ignore_label=source.ignore_label,
    )
    rng = np.random.default_rng(0)
    cells, whole, photo, label = [], [], [], []
    cells.append(np.zeros((0, clip.photo_context.channels), np.float16))
    for index, one in enumerate(tqdm(photos, desc=f"seeing {source.title}", unit="photo")):
        seen = clip.see(load_image(one.path)).cpu()  # (F, u, v)
        read = read_map(one.labels).astype(np.int64)
        values = read - source.first_label
        unnamed = (values < 0) | (values >= len(names)) | (read == one.ignore_label)
        values[unnamed] = UNNAMED
        u, v = seen.shape[1:]
        chosen = rng.permutation(u * v)[:count]
        cells.append(seen.flatten(1).mT[chosen].half().numpy())
        whole.append(seen.mean(dim=(1, 2)).half().numpy())
        photo.append(np.full(len(chosen), index))
        label.append(_centres(values, (u, v)).ravel()[chosen])
    return SourceCells(
        np.concatenate(cells), np.stack(whole), np.concatenate(photo), np.concatenate(label)
    )


def _centres(values: NDArray[np.int64], size_hw: Sequence[int]) -> NDArray[np.int64]:
    """(H, W) -> (u, v): the pixel in the middle of each cell."""
    rows, columns = (
        ((np.arange(cells) + 0.5) / cells * pixels).astype(np.int64)
        for cells, pixels in zip(size_hw, values.shape, strict=True)
    )
    return values[rows][:, columns]
