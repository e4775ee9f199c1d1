"""Mask-noun pairs on disk: Parquet shards that labelling writes and training reads.

A folder of pairs holds ``pairs-00000.parquet``, ``pairs-00001.parquet`` ..., ``run.json`` (how it
was made; its ``images`` is the absolute path of the images root) and ``summary.json`` (counts;
written last, so a folder that has it is complete).
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pycocotools import mask as coco_mask

from maskclip.json_file import write_json
from proposal.code_version import code_version
from proposal.whole_file import write_whole

SUMMARY = "summary.json"  # of a folder, written last
PAIR_SCHEMA = pa.schema(
    [
        ("image", pa.string()),  # path of the photo, relative to the images root
        ("image_id", pa.string()),
        ("height", pa.int32()),  # size of the photo and of its mask
        ("width", pa.int32()),
        ("noun", pa.string()),
        ("caption", pa.string()),  # "" where no caption said the noun
        ("caption_id", pa.string()),  # "" likewise
        ("score", pa.float32()),  # cosine of noun and crop; 1 for ground truth
        ("probability", pa.float32()),  # softmax over the nouns of the image; 1 for ground truth
        ("box_xyxy", pa.list_(pa.int32(), 4)),  # exclusive on the right and bottom
        ("area", pa.int32()),  # pixels of the mask
        ("mask", pa.binary()),  # COCO compressed RLE counts at height x width
        ("proposal", pa.int32()),  # index of the mask among the masks of its photo
    ]
)


@dataclass(frozen=True)
class Pair:
    """One mask of one photo with a noun that names it; fields are ``PAIR_SCHEMA``'s."""

    image: str
    image_id: str
    height: int
    width: int
    noun: str
    box_xyxy: tuple[int, int, int, int]
    area: int
    mask: bytes
    proposal: int = 0
    caption: str = ""
    caption_id: str = ""
    score: float = 1.0
    probability: float = 1.0

    @classmethod
    def from_mask(cls, mask: np.ndarray, *, image: str, noun: str, **fields: Any) -> Pair:
        """(H, W) bool mask with at least one pixel -> the pair; ``image_id`` defaults to the stem.

        Raises:
            ValueError: the mask is not two-dimensional or has no pixel.
        """
        if mask.ndim != 2 or not mask.any():
            got = f"shape {mask.shape} with {int(mask.sum())} pixels"
            raise ValueError(f"mask must be (H, W) with at least one pixel, got {got} ({image})")
        fields.setdefault("image_id", Path(image).stem)
        height, width = mask.shape
        return cls(
            image=image,
            noun=noun,
            height=height,
            width=width,
            box_xyxy=mask_box(mask),
            area=int(mask.sum()),
            mask=encode_mask(mask),
            **fields,
        )


def mask_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(H, W) bool with at least one pixel -> x0, y0, x1, y1, exclusive on the right and bottom."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def encode_mask(mask: np.ndarray) -> bytes:
    """(H, W) bool -> COCO compressed RLE counts."""
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]


def decode_mask(row: Mapping[str, Any]) -> np.ndarray:
    """A row of the table, as ``table.slice(i, 1).to_pylist()[0]`` gives it -> (H, W) bool."""
    rle = {"size": [row["height"], row["width"]], "counts": row["mask"]}
    return coco_mask.decode(rle).astype(bool)


def shard_name(shard: int) -> str:
    """The file of a shard, by its place from 0 on."""
    return f"pairs-{shard:05d}.parquet"


def write_pairs(folder: str | Path, shard: int, rows: Sequence[Pair]) -> Path:
    """Write one shard, whole, and return its path."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / shard_name(shard)
    write_whole(path, encode_pairs(rows))
    return path


def encode_pairs(rows: Sequence[Pair], notes: Mapping[str, str] | None = None) -> bytes:
    """Rows -> a Parquet file, with texts of the caller's beside its schema; equal if those are."""
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=PAIR_SCHEMA)
    content = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(notes), content, compression="zstd")
    return content.getvalue()


def read_pairs(folder: str | Path) -> pa.Table:
    """All shards of a folder, in order, as one table of ``PAIR_SCHEMA``.

    Raises:
        FileNotFoundError: the folder holds no shard.
        ValueError: a shard cannot be read or lacks a column.
    """
    shards = sorted(Path(folder).glob("pairs-*.parquet"))
    if not shards:
        raise FileNotFoundError(
            f"expected a folder with pairs-00000.parquet …, got {folder}: make it with"
            " tools/prepare_nano.py or tools/self_label.py"
        )
    return pa.concat_tables([_read_shard(path) for path in shards])


def _read_shard(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(
            f"{path} is not a readable Parquet file ({error}): make it again"
        ) from error
    missing = [name for name in PAIR_SCHEMA.names if name not in table.column_names]
    if missing:
        raise ValueError(f"{path} must have the columns of PAIR_SCHEMA, it lacks {missing}")
    return table.select(PAIR_SCHEMA.names).cast(PAIR_SCHEMA)


def images_root(folder: str | Path) -> Path:
    """The folder that a pairs folder's ``image`` paths are relative to, from its ``run.json``.

    Raises:
        FileNotFoundError: there is no ``run.json``.
        ValueError: it does not name the images root.
    """
    path = Path(folder) / "run.json"
    if not path.is_file():
        raise FileNotFoundError(f"expected {path}, which names the images root of the pairs")
    run = json.loads(path.read_text(encoding="utf-8"))
    if "images" not in run:
        raise ValueError(f"{path} must have the key 'images' (the images root), got {sorted(run)}")
    return Path(run["images"])


def write_run(
    folder: str | Path, images: str | Path, config: Mapping[str, Any], **others: Any
) -> None:
    """Write ``run.json``: the images root (made absolute), the config, the code, and others."""
    run = {
        "images": str(Path(images).resolve()),
        "config": dict(config),
        "code": code_version(),
        **others,
    }
    write_json(Path(folder) / "run.json", run)


def write_summary(folder: str | Path) -> dict[str, Any]:
    """Count what the shards hold and write ``summary.json``, the sign of a complete folder."""
    table = read_pairs(folder)
    nouns = Counter(table["noun"].to_pylist())
    summary = {
        "pairs": table.num_rows,
        "images": len(set(table["image"].to_pylist())),
        "nouns": len(nouns),
        "pairs_per_noun": dict(nouns.most_common()),
    }
    write_json(Path(folder) / SUMMARY, summary)
    return summary


def is_complete(folder: str | Path) -> bool:
    """Whether a pairs folder was finished, not stopped half-way or still in the making."""
    return (Path(folder) / SUMMARY).is_file()


def write_pairs_folder(
    folder: str | Path,
    rows: Iterable[Pair],
    *,
    images: str | Path,
    config: Mapping[str, Any],
    shard_size: int = 20_000,
) -> dict[str, Any]:
    """Write a whole pairs folder afresh and return its summary."""
    folder = Path(folder)
    for stale in [*folder.glob("pairs-*.parquet"), *folder.glob(SUMMARY)]:
        stale.unlink()
    rows = list(rows)
    for shard, start in enumerate(range(0, max(len(rows), 1), shard_size)):
        write_pairs(folder, shard, rows[start : start + shard_size])
    write_run(folder, images, config)
    return write_summary(folder)
