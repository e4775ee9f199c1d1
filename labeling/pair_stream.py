"""The rows of a pairs folder, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 2000  # in memory at once


def shard_paths(folder: str | Path) -> list[Path]:
    """The shards of a folder, in order.

    Raises:
        FileNotFoundError: it holds none.
    """
    shards = sorted(Path(folder).glob("pairs-*.parquet"))
    if not shards:
        raise FileNotFoundError(
            f"expected a folder with pairs-00000.parquet …, got {folder}: make it with "
            "tools/self_label.py"
        )
    return shards


def stream_columns(folder: str | Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Some columns of all pairs, in the order of the shards, ``ROWS`` at a time.

    Raises:
        FileNotFoundError: the folder holds no shard.
        ValueError: a shard cannot be read or lacks a column.
    """
    for path in shard_paths(folder):
        try:
            with pq.ParquetFile(path) as file:
                missing = sorted(set(columns) - set(file.schema_arrow.names))
                if missing:
                    raise ValueError(f"{path} must hold mask-noun pairs, it lacks {missing}")
                yield from file.iter_batches(ROWS, columns=list(columns))
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(f"{path} is no readable Parquet ({error}): label it again") from error


def stream_rows(folder: str | Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The same, row by row."""
    for batch in stream_columns(folder, columns):
        yield from batch.to_pylist()


def count_rows(folder: str | Path) -> int:
    """How many pairs there are."""
    return sum(pq.read_metadata(path).num_rows for path in shard_paths(folder))
