"""Label files as data sets ship them, as indices into their names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from maskclip.datasets.label_files import SHOWN, read_labels
from proposal.data.coco import decode_segmentation

# What the list of Pascal Context's 59 names calls differently from that of its 459
CONTEXT_TWINS = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}


class Decoder(Protocol):
    """How one label file becomes indices into the names; goes to other processes."""

    def decode(self, labels: Path | None, extra: Any) -> np.ndarray:
        """-> (H, W) int64, index or ignore."""
        ...


@dataclass(frozen=True)
class TableDecoder:
    """One value a pixel: PNG, or LabelMap of a .mat."""

    table: Mapping[int, int]  # value -> index, or ignore
    ignore: int

    def decode(self, labels: Path | None, extra: Any = None) -> np.ndarray:  # noqa: ARG002
        """-> (H, W) int64.

        Raises:
            ValueError: a value is in no table; the file and the value are named.
        """
        values = _read_mat(labels) if labels.suffix == ".mat" else read_labels(labels)
        held = np.unique(values).tolist()
        strange = [value for value in held if value not in self.table]
        if strange:
            known = [value for value, label in self.table.items() if label != self.ignore]
            raise ValueError(
                f"{labels} holds the value{'s' * (len(strange) > 1)} "
                f"{', '.join(map(str, strange[:SHOWN]))}, expected {min(known)} to {max(known)} or "
                f"one without a name: is it of this data set?"
            )
        return look_up(values, {value: self.table[value] for value in held}, self.ignore)


@dataclass(frozen=True)
class ColourDecoder:
    """Ids in the colours: ADE20K's ``R // 10 * 256 + G``, COCO panoptic's ``R + 256 G + …``."""

    kind: str  # ade_full | panoptic
    table: Mapping[int, int]  # id -> index; empty where ``extra`` brings each photo's own
    ignore: int

    def decode(self, labels: Path | None, extra: Mapping[int, int] | None) -> np.ndarray:
        """-> (H, W) int64; ids without a name are ignored.

        Raises:
            ValueError: no RGB picture, or a segment that the annotations do not know.
        """
        with Image.open(labels) as image:
            colours = np.asarray(image).astype(np.int64)
        if colours.ndim != 3:
            raise ValueError(f"{labels} must be an RGB picture of ids, got {colours.shape}")
        if self.kind == "ade_full":
            return look_up(colours[..., 0] // 10 * 256 + colours[..., 1], self.table, self.ignore)
        ids = colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]
        strange = [each for each in np.unique(ids).tolist() if each and each not in extra]
        if strange:
            raise ValueError(
                f"{labels} holds segment {strange[0]}, which its annotations do not know: are both "
                "of the same download?"
            )
        return look_up(ids, extra, self.ignore)


@dataclass(frozen=True)
class InstanceDecoder:
    """Labels painted from COCO instances; there is no label file."""

    labels: Mapping[int, int]  # category id -> index
    ignore: int

    def decode(self, labels: Path | None, extra: Mapping[str, Any]) -> np.ndarray:  # noqa: ARG002
        """``extra``: size_hw, annotations -> (H, W) int64."""
        single = [a for a in extra["annotations"] if not a.get("iscrowd")]
        masks = [decode_segmentation(a["segmentation"], extra["size_hw"]) for a in single]
        indices = [self.labels.get(a["category_id"], self.ignore) for a in single]
        return paint_labels(masks, indices, extra["size_hw"], self.ignore)


def paint_labels(
    masks: Sequence[np.ndarray], indices: Sequence[int], size_hw: tuple[int, int], ignore: int
) -> np.ndarray:
    """M masks (H, W) bool with their labels -> (H, W) int64, largest first, ``ignore`` elsewhere.

    Small masks lie on top; one whose label is ``ignore`` hides what lies below.
    """
    labels = np.full(size_hw, ignore, dtype=np.int64)
    pairs = list(zip(masks, indices, strict=True))
    for mask, index in sorted(pairs, key=lambda pair: int(pair[0].sum()), reverse=True):
        labels[mask] = index
    return labels


def look_up(values: np.ndarray, table: Mapping[int, int], ignore: int) -> np.ndarray:
    """(H, W) -> (H, W) int64: each value's entry, ``ignore`` for those that have none."""
    held, place = np.unique(values, return_inverse=True)
    entries = np.array([table.get(value, ignore) for value in held.tolist()], dtype=np.int64)
    return entries[place].reshape(values.shape)


def ade_ids(files: Iterable[Path], names: Sequence[str]) -> dict[int, int]:
    """The full ADE20K's JSON files -> index into the names of each class id that has one.

    Raises:
        FileNotFoundError: a JSON file is missing.
        ValueError: one is damaged.
    """
    index = {_key(name): i for i, name in enumerate(names)}
    ids: dict[int, int] = {}
    for path in files:
        if not path.is_file():
            raise FileNotFoundError(f"{path}, which names what the photo shows, is missing")
        try:
            content = json.loads(path.read_text(encoding="utf-8", errors="replace"))
            for thing in content["annotation"]["object"]:
                label = index.get(_key(thing["name"]))
                if label is not None:
                    ids[int(thing["name_ndx"])] = label
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no annotation of the full ADE20K: {error!r}") from error
    return ids


def listed_values(path: Path, names: Sequence[str]) -> dict[int, int]:
    """A file of lines ``value: name`` -> index into the names of each value.

    Raises:
        ValueError: a name is missing from the file.
    """
    index = {_key(name): i for i, name in enumerate(names)}
    values: dict[int, int] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        value, colon, name = line.partition(":")
        key = _key(name)
        label = index.get(CONTEXT_TWINS.get(key, key) if key not in index else key)
        if colon and value.strip().isdecimal() and label is not None:
            values[int(value)] = label
    missing = [name for i, name in enumerate(names) if i not in values.values()]
    if missing:
        raise ValueError(
            f"{path} must list every name as `value: name`, it lacks {', '.join(missing[:SHOWN])}"
        )
    return values


def _key(name: str) -> str:
    return " ".join(name.split()).casefold()


def _read_mat(path: Path) -> np.ndarray:
    from scipy.io import loadmat  # here, as only Pascal Context needs it

    try:
        return np.asarray(loadmat(path)["LabelMap"]).astype(np.int64)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ValueError(f"{path} holds no LabelMap of Pascal Context: {error!r}") from error
