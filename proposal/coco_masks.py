"""One COCO file that holds the masks of many photos."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from proposal.data.panoptic import read_ids
from proposal.json_content import read_json
from proposal.region_files import BROKEN, Regions, decode_masks, score_of


@dataclass(frozen=True)
class _Entry:
    """What a file says of one photo."""

    name: str  # the photo's path without its ending, or its id
    size_hw: tuple[int, int] | None  # None in lists of results
    annotations: tuple[dict[str, Any], ...]


class CocoMasks:
    """An instances or panoptic file, or a list of results, by photo; a crowd is a region, too.

    Photos of a list of results are known by their ``image_id``, which is their stem, or its number.
    """

    def __init__(self, path: Path, content: Any) -> None:
        self.path = path
        try:
            entries = _results(content) if isinstance(content, list) else _instances(content)
        except BROKEN as error:
            raise ValueError(f"{path} is no COCO file: {error!r}") from error
        self._by_name: dict[str, list[_Entry]] = defaultdict(list)
        for entry in entries:
            for name in dict.fromkeys((entry.name, PurePosixPath(entry.name).name)):
                self._by_name[name].append(entry)

    @classmethod
    def read(cls, path: Path) -> CocoMasks:
        """Read a file.

        Raises:
            ValueError: it is no COCO file.
        """
        content = read_json(path)
        if not is_coco(content):
            raise ValueError(
                f"{path} is no COCO file of masks: expected images and annotations with "
                "segmentation, or a list of results with image_id and segmentation"
            )
        return cls(path, content)

    def known(self, names: Sequence[str]) -> list[str]:
        """Which of these names a photo here has, ``000042`` being 42, too."""
        numbers = [str(int(name)) for name in names if name.isdecimal()]
        return [name for name in (*names, *numbers) if name in self._by_name]

    def regions(self, name: str, photo_hw: tuple[int, int]) -> Regions:
        """The masks of the photo of a known name.

        Raises:
            ValueError: several photos have this name, or a mask is damaged.
            OSError: a panoptic PNG cannot be read.
        """
        entries = self._by_name[name]
        if len(entries) > 1:
            some = ", ".join(entry.name for entry in entries[:3])
            raise ValueError(
                f"{self.path} has several photos of the name {name} ({some}): give photos by "
                "the folder that its file names begin in"
            )
        try:
            return self._decode(entries[0], photo_hw)
        except BROKEN as error:
            raise ValueError(
                f"{self.path} has a damaged mask for {entries[0].name}: {error!r}"
            ) from error

    def _decode(self, entry: _Entry, photo_hw: tuple[int, int]) -> Regions:
        if any("segments_info" in each for each in entry.annotations):
            (panoptic,) = entry.annotations
            return self._panoptic(panoptic)
        masks = decode_masks(entry.annotations, entry.size_hw or photo_hw)
        return masks, np.array([score_of(each) for each in entry.annotations], dtype=np.float64)

    def _panoptic(self, annotation: dict[str, Any]) -> Regions:
        """The PNG lies beside the file, or in a folder of the file's name."""
        name, folder = annotation["file_name"], self.path.parent
        places = [folder / name, folder / self.path.stem / name]
        ids = read_ids(next((place for place in places if place.is_file()), places[-1]))
        segments = annotation["segments_info"]
        numbers = np.array([each["id"] for each in segments], dtype=np.int64)
        scores = np.array([score_of(each) for each in segments], dtype=np.float64)
        return ids[None] == numbers[:, None, None], scores


def is_coco(content: Any) -> bool:
    """Does it look like a COCO file with masks (captions have none) of several photos?"""
    if isinstance(content, dict):
        annotations = content.get("annotations") if "images" in content else None
        return isinstance(annotations, list) and all(_has_mask(each) for each in annotations[:10])
    if not isinstance(content, list) or not content:
        return False
    return all(isinstance(each, dict) and "image_id" in each for each in content[:10])


def _has_mask(annotation: Any) -> bool:
    return isinstance(annotation, dict) and not {"segmentation", "segments_info"}.isdisjoint(
        annotation
    )


def _instances(content: dict[str, Any]) -> list[_Entry]:
    by_id = defaultdict(list)
    for annotation in content["annotations"]:
        by_id[annotation["image_id"]].append(annotation)
    return [
        _Entry(
            str(PurePosixPath(image["file_name"]).with_suffix("")),
            (image["height"], image["width"]),
            tuple(by_id[image["id"]]),
        )
        for image in content["images"]
    ]


def _results(content: list[dict[str, Any]]) -> list[_Entry]:
    by_id = defaultdict(list)
    for result in content:
        by_id[str(result["image_id"])].append(result)
    return [_Entry(name, None, tuple(results)) for name, results in by_id.items()]
