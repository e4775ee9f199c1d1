"""A prepared data set: ``images/``, ``labels/``, ``names.txt`` and what was made of what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskclip.names import read_class_file

IMAGES, LABELS, NAMES, INSTANCES = "images", "labels", "names.txt", "instances.json"
DONE = "prepared.json"  # written last
BEGUN = "preparing.json"  # there while it is not complete


@dataclass(frozen=True)
class PreparedDataset:
    """A complete folder that ``tools/prepare_data.py`` made."""

    folder: Path
    name: str
    names: tuple[str, ...]
    ignore: int
    photos: int
    expected: int  # photos of the official split; 0 = unknown
    short_side: int

    @property
    def is_whole(self) -> bool:
        """Whether it has as many photos as the official split."""
        return not self.expected or self.photos == self.expected


def open_prepared(folder: Path) -> PreparedDataset:
    """Read a prepared folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not complete, or damaged.
    """
    path = folder / DONE
    if (folder / BEGUN).exists():
        raise ValueError(
            f"{folder} is only partly prepared: run tools/prepare_data.py again, it goes on where "
            "it stopped"
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no prepared data set in {folder}: make it with tools/prepare_data.py"
        )
    content = read_record(path)
    try:
        return PreparedDataset(
            folder,
            content["dataset"],
            tuple(read_class_file(folder / NAMES)),
            int(content["ignore"]),
            int(content["photos"]),
            int(content["expected"]),
            int(content["short_side"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): prepare the data set again") from error


def find_prepared(name: str, data_root: Path) -> PreparedDataset:
    """``data_root/name``, or ``data_root`` itself where that is this data set.

    Raises:
        FileNotFoundError, ValueError: as ``open_prepared``.
    """
    for folder in (data_root / name, data_root):
        if (folder / DONE).exists() or (folder / BEGUN).exists():
            found = open_prepared(folder)
            if found.name == name:
                return found
    raise FileNotFoundError(
        f"there is no prepared {name} in {data_root / name}: run `python tools/prepare_data.py "
        f"{name} --source DOWNLOAD --output {data_root / name}`, or say --data-root"
    )


def read_record(path: Path) -> Mapping[str, Any]:
    """A small JSON mapping.

    Raises:
        ValueError: it is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): prepare the data set again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: prepare the data set again")
    return content
