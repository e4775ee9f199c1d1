"""All pairs of a training's sources, as columns."""

from __future__ import annotations

import hashlib
import logging
import zlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from maskclip.adaptation.config import PairSource
from maskclip.adaptation.sources import read_source
from maskclip.pairs import decode_mask
from maskclip.unseen_words import fold_noun

logger = logging.getLogger(__name__)
HOLD_OUT_STEPS = 10_000  # photos are told apart by a hash of their id modulo this


@dataclass(frozen=True)
class PairTable:
    """M pairs of R distinct regions, named with K nouns.

    Pairs that name one region twice (dog, Afghan hound) share its crops and features.
    """

    regions: pa.Table  # (R) rows of PAIR_SCHEMA, for their photo, mask and box
    region_source: NDArray[np.int64]  # (R,) index into sources
    pair_region: NDArray[np.int64]  # (M,) index into regions
    pair_noun: NDArray[np.int64]  # (M,) index into nouns
    nouns: tuple[str, ...]  # (K)
    sources: tuple[PairSource, ...]
    roots: tuple[Path, ...]  # of each source's photos
    held_out: NDArray[np.bool_]  # (M,) pairs that are never drawn

    def __len__(self) -> int:
        return len(self.pair_region)

    def photo(self, region: int) -> Path:
        """Where the photo of a region lies."""
        return self.roots[self.region_source[region]] / self.regions["image"][region].as_py()

    def mask(self, region: int) -> NDArray[np.bool_]:
        """(H, W) bool at the photo's size."""
        return decode_mask(self.regions.slice(region, 1).to_pylist()[0])

    def box_xyxy(self, region: int) -> tuple[int, int, int, int]:
        """The tight box, exclusive on the right and bottom."""
        return tuple(self.regions["box_xyxy"][region].as_py())

    @property
    def pair_source(self) -> NDArray[np.int64]:
        """(M,) index into sources."""
        return self.region_source[self.pair_region]

    def exclusive_nouns(self) -> list[str]:
        """The nouns of all sources with a closed list, sorted."""
        closed = np.array([source.exclusive for source in self.sources], dtype=bool)
        return sorted({self.nouns[i] for i in self.pair_noun[closed[self.pair_source]]})

    def weights(self) -> NDArray[np.float64]:
        """(M,) chance of each pair: by the source's weight, within it by its noun's rarity."""
        weights = np.zeros(len(self))
        for index, source in enumerate(self.sources):
            own = np.flatnonzero((self.pair_source == index) & ~self.held_out)
            counts = np.bincount(self.pair_noun[own], minlength=len(self.nouns))
            rarity = counts[self.pair_noun[own]] ** -float(source.balance)
            if len(own):
                weights[own] = source.weight * rarity / rarity.sum()
        return weights / weights.sum()

    def said_together(self) -> NDArray[np.int64]:
        """(X, 2): nouns that are said of the same region, in both orders, each pair once."""
        order = np.lexsort((self.pair_noun, self.pair_region))
        regions, nouns = self.pair_region[order], self.pair_noun[order]
        starts = np.flatnonzero(np.diff(regions, prepend=-1))
        sizes = np.diff(starts, append=len(regions))
        found = [np.zeros((0, 2), dtype=np.int64)]
        for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
            group = nouns[start : start + size]
            found.append(np.stack(np.meshgrid(group, group), axis=-1).reshape(-1, 2))
        pairs = np.concatenate(found)
        return np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)

    def closed_lists(self) -> NDArray[np.bool_]:
        """(K, sources with a closed list): which noun is in which list."""
        closed = [index for index, source in enumerate(self.sources) if source.exclusive]
        members = np.zeros((len(self.nouns), len(closed)), dtype=bool)
        for column, index in enumerate(closed):
            members[self.pair_noun[self.pair_source == index], column] = True
        return members

    def fingerprint(self, source: int) -> str:
        """SHA-256 of the regions of one source: their photos and masks."""
        own = self.regions.filter(pa.array(self.region_source == source))
        digest = hashlib.sha256()
        for column in ("image", "mask"):
            for value in own[column].to_pylist():
                digest.update(value if isinstance(value, bytes) else value.encode())
                digest.update(b"\0")
        return digest.hexdigest()


def read_table(
    sources: Sequence[PairSource],
    *,
    hold_out: float = 0.0,
    only_held_out: bool = False,
    leave_out: Collection[str] = (),
) -> PairTable:
    """The pairs of all sources; those of a share of the photos are marked, or alone there.

    Pairs whose nouns (as ``fold_noun`` has them) are to be left out are not there; their regions
    stay, nameless, so that what is cached of regions serves trainings with and without them.

    Raises:
        ValueError: there are no sources, or none has a pair.
        FileNotFoundError: a file or folder is missing.
    """
    opened = [read_source(source) for source in sources]
    share = hold_out if only_held_out else 1.0
    tables = [_limit(pairs, s, share) for (pairs, _), s in zip(opened, sources, strict=True)]
    if not sum(table.num_rows for table in tables):
        found = ", ".join(source.title for source in sources) or "nothing"
        raise ValueError(
            f"data.sources must hold pairs, got {found}: name folders that tools/self_label.py or "
            "tools/prepare_nano.py made, COCO instances or label PNGs (docs/training.md)"
        )
    pairs = _with_large_masks(pa.concat_tables(tables))
    source = np.repeat(np.arange(len(tables)), [table.num_rows for table in tables])
    first, region = _distinct_regions(pairs, source)
    regions = pairs.take(pa.array(first)).combine_chunks()
    wanted = [fold_noun(noun) not in leave_out for noun in pairs["noun"].to_pylist()]
    pairs, region = pairs.filter(pa.array(wanted)), region[wanted]
    if not len(pairs):
        raise ValueError("data.leave_out_nouns leaves no pair: name fewer nouns, or other sources")
    nouns, noun = np.unique(np.array(pairs["noun"].to_pylist(), dtype=object), return_inverse=True)
    logger.info("%d pairs of %d regions with %d nouns", len(pairs), len(first), len(nouns))
    return PairTable(
        regions=regions,
        region_source=source[first],
        pair_region=region,
        pair_noun=noun.astype(np.int64),
        nouns=tuple(nouns),
        sources=tuple(sources),
        roots=tuple(root for _, root in opened),
        held_out=_held_out(pairs, hold_out),
    )


def _with_large_masks(pairs: pa.Table) -> pa.Table:
    """The masks of a million pairs are more than the 2 GB that a column of small offsets holds."""
    index = pairs.column_names.index("mask")
    return pairs.set_column(index, "mask", pairs["mask"].cast(pa.large_binary()))


def _held_out(pairs: pa.Table, share: float) -> NDArray[np.bool_]:
    ids = pairs["image_id"].to_pylist()
    return np.array([is_held_out(image_id, share) for image_id in ids], dtype=bool)


def _limit(table: pa.Table, source: PairSource, share: float) -> pa.Table:
    """The pairs of one source that are wanted, on this share of its photos."""
    keep = pc.and_(
        pc.greater_equal(table["score"], source.min_score),
        pc.greater_equal(table["area"], source.min_area),
    )
    table = table.filter(keep)
    table = table.filter(pa.array(_held_out(table, share)))
    return _cap(table, source.max_per_noun) if source.max_per_noun else table


def _cap(table: pa.Table, limit: int) -> pa.Table:
    """At most ``limit`` pairs of each noun, spread over the table; the order stays."""
    nouns = np.array(table["noun"].to_pylist(), dtype=object)
    order = np.random.default_rng(0).permutation(len(nouns))
    seen: Counter = Counter()
    keep = np.zeros(len(nouns), dtype=bool)
    for row in order:
        keep[row] = seen[nouns[row]] < limit
        seen[nouns[row]] += 1
    return table.filter(pa.array(keep))


def is_held_out(image_id: str, share: float) -> bool:
    """Whether a photo belongs to the given share that training leaves out."""
    return zlib.crc32(image_id.encode()) % HOLD_OUT_STEPS < share * HOLD_OUT_STEPS


def _distinct_regions(
    pairs: pa.Table, source: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """M pairs -> (R,) the first pair of each region, (M,) the region of each pair."""
    places: dict[tuple, int] = {}
    first = []
    region = np.zeros(len(pairs), dtype=np.int64)
    columns = (source.tolist(), pairs["image"].to_pylist(), pairs["mask"].to_pylist())
    for row, key in enumerate(zip(*columns, strict=True)):
        if key not in places:
            places[key] = len(first)
            first.append(row)
        region[row] = places[key]
    return np.array(first, dtype=np.int64), region
