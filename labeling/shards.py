"""Lists of captioned photos cut into shards, each of which becomes one file."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from labeling.captions import CaptionedImage
from labeling.labeler import Labeler
from maskclip.images import load_image
from maskclip.pairs import Pair, encode_pairs

READERS = 2  # threads that decode photos while the model works
AHEAD = 8  # photos that are decoded before they are needed: bounds memory
NOTES = b"labeling"  # where a shard's file keeps its ShardNotes


@dataclass(frozen=True)
class Shard:
    """Some photos of the list, in their order."""

    index: int  # of the file, from 0
    entries: tuple[CaptionedImage, ...]


@dataclass(frozen=True)
class Skipped:
    """A photo that could not be labelled."""

    image: str
    image_id: str
    reason: str


@dataclass(frozen=True)
class ShardNotes:
    """What a shard's file does not say in its rows."""

    images: int  # photos, skipped ones included
    captions: int
    nouns: int  # of the photos, each once a photo
    pairs: int
    skipped: tuple[Skipped, ...]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ShardNotes:
        """What ``asdict`` gave -> the notes."""
        skipped = tuple(Skipped(**one) for one in values["skipped"])
        return cls(*(values[name] for name in ("images", "captions", "nouns", "pairs")), skipped)

    @classmethod
    def read(cls, path: Path) -> ShardNotes:
        """The notes in a shard's file.

        Raises:
            OSError, ValueError, KeyError: it is not a whole file, or not one of labelling.
        """
        return cls.from_dict(json.loads(pq.read_metadata(path).metadata[NOTES]))


@dataclass(frozen=True)
class LabeledShard:
    """A shard as its file holds it."""

    index: int
    content: bytes
    notes: ShardNotes


Tick = Callable[[int, int], None]  # told after each photo: photos and pairs more


def cut(entries: Sequence[CaptionedImage], size: int) -> Iterator[Shard]:
    """Entries -> shards of ``size`` photos, the last one smaller."""
    for index, start in enumerate(range(0, len(entries), size)):
        yield Shard(index, tuple(entries[start : start + size]))


def label_shard(labeler: Labeler, images: Path, shard: Shard, tick: Tick) -> LabeledShard:
    """Label the photos of a shard; those that cannot be read are noted, and stop nothing.

    The result depends on the photos, the captions and the labeler alone.
    """
    rows: list[Pair] = []
    skipped: list[Skipped] = []
    captions = [caption.text for entry in shard.entries for caption in entry.captions]
    said, nouns_found = labeler.parser.nouns(captions), 0
    photos = read_ahead([images / entry.image for entry in shard.entries])
    for entry, photo in zip(shard.entries, photos, strict=True):
        nouns = list(islice(said, len(entry.captions)))
        nouns_found += len({noun for each in nouns for noun in each})
        try:
            pairs = labeler.pair(photo.result(), entry, nouns)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split()).replace(f"{images}/", "")
            skipped.append(Skipped(entry.image, entry.image_id, reason))
            pairs = []
        rows += pairs
        tick(1, len(pairs))
    notes = ShardNotes(len(shard.entries), len(captions), nouns_found, len(rows), tuple(skipped))
    content = encode_pairs(rows, {NOTES.decode(): json.dumps(asdict(notes))})
    return LabeledShard(shard.index, content, notes)


def read_ahead(paths: Iterable[Path]) -> Iterator[Future[np.ndarray]]:
    """Paths -> their photos (H, W, 3) uint8 RGB, decoded by threads while earlier ones are used.

    ``result()`` of what comes raises what ``load_image`` does.
    """
    waiting: deque[Future[np.ndarray]] = deque()
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
    try:
        for path in paths:
            waiting.append(pool.submit(load_image, path))
            if len(waiting) > AHEAD:
                yield waiting.popleft()
        yield from waiting
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def pinned_threads(count: int) -> Iterator[None]:
    """PyTorch on so many CPU threads: their number decides the last bits of what it computes."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
