"""Folders of photos with region PNGs, as stage 1 reads them.

``images/<stem>.jpg`` is a link to the photo, ``regions/<stem>.png`` (several annotators:
``<stem>_<annotator>.png``) its map of the same size: every value but 0 is one region; 0 is
unlabelled. ``summary.json`` is written last: a folder that has it is complete.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskclip.json_file import write_json
from maskclip.pairs import write_run
from proposal.whole_file import write_whole


class RegionFolder:
    """A folder of photos with region PNGs while it is written."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.maps = 0
        self.regions = 0
        empty_folder(self.folder, ("images", "regions"))

    def add(self, photo: str | Path, painted: np.ndarray, *, stem: str = "") -> None:
        """Add a photo with an (H, W) map of its regions; a map without a region is left out.

        ``stem`` is the map's, by default the photo's; ``<stem>_<annotator>`` gives a photo several.
        """
        values = np.unique(painted)
        if not values.any():
            return
        photo = Path(photo).resolve()
        stem = stem or photo.stem
        write_map(self.folder / "regions" / f"{stem}.png", painted)
        link_photo(self.folder, photo)
        self.maps += 1
        self.regions += int((values > 0).sum())

    def close(self, config: dict[str, Any]) -> dict[str, Any]:
        """Write ``run.json`` with the config; write and return the summary."""
        write_run(self.folder, self.folder / "images", config)
        summary = {"maps": self.maps, "regions": self.regions}
        write_json(self.folder / "summary.json", summary)
        return summary


def empty_folder(folder: Path, parts: Sequence[str]) -> None:
    """Make a folder with these subfolders, empty and not complete, whatever it was before."""
    for name in parts:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for stale in (folder / name).iterdir():
            stale.unlink()
    (folder / "summary.json").unlink(missing_ok=True)


def write_map(path: Path, painted: np.ndarray) -> None:
    """Write an (H, W) uint8 or uint16 map as a PNG."""
    content = io.BytesIO()
    Image.fromarray(painted).save(content, format="PNG")
    write_whole(path, content.getvalue())


def link_photo(folder: Path, photo: Path) -> None:
    """Let ``folder/images`` have the photo, by a link."""
    link = folder / "images" / photo.name
    if not link.is_symlink():
        link.symlink_to(photo)
