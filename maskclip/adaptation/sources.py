"""Mask-noun pairs from pairs folders, COCO instances or label PNGs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from maskclip.adaptation.config import PairSource
from maskclip.annotations import coco_pairs, photo_key, read_photo_list
from maskclip.label_pairs import label_pairs
from maskclip.names import read_class_file
from maskclip.pairs import PAIR_SCHEMA, Pair, images_root, is_complete, read_pairs
from proposal.training_record import fingerprint

logger = logging.getLogger(__name__)


def read_source(source: PairSource) -> tuple[pa.Table, Path]:
    """A source's pairs, as rows of ``PAIR_SCHEMA``, and the root of their photos' paths.

    Raises:
        FileNotFoundError: a file or folder is missing.
        ValueError: one is not what it should be.
    """
    if source.folder:
        table, root = read_pairs(source.folder), images_root(source.folder)
        if not is_complete(source.folder):
            logger.warning(
                "%s is not finished (it has no summary.json): only what is there is used, and this "
                "training cannot be resumed once there is more",
                source.folder,
            )
    else:
        table, root = _as_table(_annotated(source)), Path(source.images)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder of photos {root}, for {source.title}")
    table = table.filter(pa.array(_wanted(source, table)))
    _check_photos(table, root, source.title)
    return table, root


def _check_photos(table: pa.Table, root: Path, title: str) -> None:
    """A missing photo is told now, not when its turn comes in hours."""
    photos = table["image"].unique().to_pylist()
    missing = [photo for photo in photos if not (root / photo).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{title} names {len(photos)} photos, of which {len(missing)} are missing, such as "
            f"{root / missing[0]}: get them, or name the right folder of photos"
        )


def fingerprint_sources(sources: Sequence[PairSource]) -> dict[str, Any]:
    """What the training's data are, by source: see ``training_record.fingerprint``."""
    found = {}
    for number, source in enumerate(sources):
        maps = sorted(Path(source.labels).glob("*.png")) if source.labels else []
        shards = sorted(Path(source.folder).glob("pairs-*.parquet")) if source.folder else []
        texts = (source.instances, source.names, source.photos, source.leave_out)
        files = [*shards, *(Path(text) for text in texts if text)]
        found[f"data.sources.{number} ({source.title})"] = fingerprint(files, maps)
    return found


def _annotated(source: PairSource) -> Iterable[Pair]:
    if source.instances:
        return coco_pairs(source.instances, images=source.images)
    return label_pairs(
        source.labels,
        source.images,
        read_class_file(source.names),
        first_label=source.first_label,
        ignore_label=source.ignore_label,
    )


def _as_table(pairs: Iterable[Pair]) -> pa.Table:
    return pa.Table.from_pylist([vars(pair) for pair in pairs], schema=PAIR_SCHEMA)


def _wanted(source: PairSource, table: pa.Table) -> NDArray[np.bool_]:
    """(rows,): those on photos that are listed, where there is a list, and not left out."""
    wanted = np.ones(len(table), dtype=bool)
    for path, listed in ((source.photos, True), (source.leave_out, False)):
        if path:
            keys = read_photo_list(path)
            photos = table["image"].to_pylist()
            wanted &= np.array([(photo_key(one) in keys) == listed for one in photos], dtype=bool)
    return wanted
