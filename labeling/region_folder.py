"""Folders of photos with region PNGs, as stage 1 reads them.

``images/<stem>.jpg`` is a link to the photo, ``regions/<stem>.png`` (several annotators:
``<stem>_<annotator>.png``) its map of the same size: every value but 0 is one region; 0 is
unlabelled. ``summary.json`` is written last: a folder that has it is complete.
"""

from __future__ import annotations

import io
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
        for name in ("images", "regions"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            for stale in (self.folder / name).iterdir():
                stale.unlink()
        (self.folder / "summary.json").unlink(missing_ok=True)

    def add(self, photo: str | Path, painted: np.ndarray, *, stem: str = "") -> None:
        """Add a photo with an (H, W) map of its regions; a map without a region is left out.

        ``stem`` is the map's, by default the photo's; ``<stem>_<annotator>`` gives a photo several.
        """
        values = np.unique(painted)
        if not values.any():
            return
        photo = Path(photo).resolve()
        stem = stem or photo.stem
        content = io.BytesIO()
        Image.fromarray(painted).save(content, format="PNG")
        write_whole(self.folder / "regions" / f"{stem}.png", content.getvalue())
        link = self.folder / "images" / photo.name
        if not link.is_symlink():
            link.symlink_to(photo)
        self.maps += 1
        self.regions += int((values > 0).sum())

    def close(self, config: dict[str, Any]) -> dict[str, Any]:
        """Write ``run.json`` with the config; write and return the summary."""
        write_run(self.folder, self.folder / "images", config)
        summary = {"maps": self.maps, "regions": self.regions}
        write_json(self.folder / "summary.json", summary)
        return summary
