"""Folders of photos with label PNGs and their names, as stage 1 learns names from.

``images/<stem>.jpg`` is a link to the photo, ``labels/<stem>.png`` its map of the same size: the
index of each pixel's name in ``names.txt``, 255 where none is known. ``summary.json`` is written
last: a folder that has it is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labeling.region_folder import empty_folder, link_photo, write_map
from maskclip.json_file import write_json
from maskclip.pairs import write_run
from proposal.whole_file import write_whole

UNLABELLED = 255
NamedMask = tuple[str, np.ndarray]  # a name, its (H, W) bool


class NamedFolder:
    """A folder of photos with label PNGs while it is written; names are numbered as they come."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.names: dict[str, int] = {}
        self.maps = 0
        empty_folder(self.folder, ("images", "labels"))

    def add(self, photo: str | Path, named: Sequence[NamedMask]) -> None:
        """Add a photo with its named masks, the lowest first; one without any is left out.

        Raises:
            ValueError: there are more names than an 8-bit map can hold.
        """
        if not named:
            return
        painted = np.full(named[0][1].shape, UNLABELLED, dtype=np.uint8)
        for name, mask in named:
            painted[mask] = self._label(name)
        photo = Path(photo).resolve()
        write_map(self.folder / "labels" / f"{photo.stem}.png", painted)
        link_photo(self.folder, photo)
        self.maps += 1

    def close(self, config: dict[str, Any]) -> dict[str, Any]:
        """Write the names, ``run.json`` with the config; write and return the summary."""
        write_whole(self.folder / "names.txt", "".join(f"{name}\n" for name in self.names).encode())
        write_run(self.folder, self.folder / "images", config)
        summary = {"maps": self.maps, "names": len(self.names)}
        write_json(self.folder / "summary.json", summary)
        return summary

    def _label(self, name: str) -> int:
        label = self.names.setdefault(name, len(self.names))
        if label >= UNLABELLED:
            raise ValueError(f"{self.folder} can hold {UNLABELLED} names, got one more: {name!r}")
        return label
