"""Everything that the packaged model is taught with, made from ``shared/data``."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from labeling.named_folder import NamedFolder, NamedMask
from labeling.pretrain import (
    RESEARCH_ONLY,
    pretrain_maps,
    pretrain_named,
    pretrain_pairs,
    read_index,
    read_mask,
)
from labeling.region_folder import RegionFolder
from labeling.regions import RegionConfig
from labeling.teaching import Teachers, load_photo, name_photo, region_map, region_pairs
from maskclip.annotations import (
    AnnotatedPhoto,
    coco_pairs,
    coco_photos,
    photo_key,
    read_photo_list,
)
from maskclip.pairs import Pair, decode_mask, read_pairs, write_pairs_folder

logger = logging.getLogger(__name__)
MASKED_SOURCES = ("msrc_v2", "ccp", "human_seg")


@dataclass(frozen=True)
class PrepareConfig:
    """What goes into the training data."""

    coarse: bool = False  # a second pair with the coarser name where a label has one
    research_only: bool = False  # also labelmefacade, bsds500_train, flickr8k_1000
    regions: RegionConfig = field(default_factory=RegionConfig)  # which teacher regions count


class Preparation:
    """Makes the sets; one that is complete, made with the same settings, is left as it is.

    Each set's ``run.json`` holds those settings that it depends on.

    ``pairs/<set>`` are folders of ``maskclip.pairs``, ``regions/<set>`` of
    ``labeling.region_folder``, ``named/<set>`` of ``labeling.named_folder``. No photo of
    ``splits/coco_val.txt`` is in any of them.
    """

    def __init__(self, shared: str | Path, output: str | Path, config: PrepareConfig) -> None:
        self.data = Path(shared).resolve() / "data"
        self.weights = Path(shared).resolve() / "weights"
        if not self.data.is_dir():
            raise FileNotFoundError(
                f"expected the project's shared folder with a folder data, got {shared}"
            )
        self.output = Path(output)
        self.config = config
        self.held_out = read_photo_list(self.data / "splits" / "coco_val.txt")

    def prepare(self) -> None:
        """Make every set that is missing."""
        data, pretrain = self.data, self.data / "pretrain"
        for name in ("coco", "coco128"):
            instances = data / name / "instances.json"
            self._write_pairs(
                name,
                data / name / "images",
                {},
                lambda path=instances: coco_pairs(path, self.held_out),
            )
        index = self._index
        train = [row for row in index if row["split"] == "train"]
        subsets = {
            "pretrain_whole": [row for row in train if "mask" not in row],
            "pretrain_regions": [row for row in train if "mask" in row],
            "pretrain_val": [row for row in index if row["split"] == "val"],
        }
        for name, rows in subsets.items():
            self._write_pairs(
                name,
                pretrain,
                self._settings("coarse", "research_only"),
                lambda rows=rows: pretrain_pairs(pretrain, rows, coarse=self.config.coarse),
            )
        for source, rows in self._masked().items():
            self._write_regions(source, lambda rows=rows: pretrain_maps(pretrain, rows))
        if self.config.research_only:
            self._write_regions("bsds500_train", self._bsds_maps)
        self._teach()
        self.name()

    def name(self) -> None:
        """Make the missing sets of label maps; needs ``pairs/teachers``, no teacher is asked."""
        for source, rows in self._masked().items():
            named = pretrain_named(self.data / "pretrain", rows)
            self._write_named(source, {}, lambda named=named: named)
        settings = self._settings("regions", "research_only")
        missing = {
            name: photos
            for name, photos in self._photos_to_teach().items()
            if not _is_done(self.output / "named" / name, settings)
        }
        told = self._told() if missing else {}
        for name, photos in missing.items():
            self._write_named(name, settings, lambda photos=photos: self._named(photos, told))

    def summaries(self) -> dict[str, dict[str, Any]]:
        """The summary of every set that is there, by ``pairs/<set>``, ``regions/<set>`` …"""
        paths = sorted(self.output.glob("*/*/summary.json"))
        return {
            f"{path.parts[-3]}/{path.parts[-2]}": json.loads(path.read_text(encoding="utf-8"))
            for path in paths
        }

    def _may_teach(self, key: str) -> bool:
        return key not in self.held_out

    @cached_property
    def _index(self) -> list[dict]:
        """The rows of ``pretrain`` that may be used."""
        leave_out = () if self.config.research_only else RESEARCH_ONLY
        return read_index(self.data / "pretrain", leave_out)

    def _masked(self) -> dict[str, list[dict]]:
        """The training rows of each set of ``pretrain`` whose photos have masks all over."""
        sources = MASKED_SOURCES + (RESEARCH_ONLY if self.config.research_only else ())
        train = [row for row in self._index if row["split"] == "train"]
        return {source: [row for row in train if row["source"] == source] for source in sources}

    def _settings(self, *names: str) -> dict[str, Any]:
        settings = asdict(self.config)
        return {name: settings[name] for name in names}

    def _write_pairs(
        self,
        name: str,
        images: Path,
        settings: dict[str, Any],
        rows: Callable[[], Iterable[Pair]],
    ) -> None:
        folder = self.output / "pairs" / name
        if not _is_done(folder, settings):
            summary = write_pairs_folder(folder, rows(), images=images, config=settings)
            logger.info("%s: %d pairs of %d nouns", folder, summary["pairs"], summary["nouns"])

    def _write_regions(self, name: str, maps: Callable[[], Iterable[tuple]]) -> None:
        folder = self.output / "regions" / name
        if not _is_done(folder, {}):
            regions = RegionFolder(folder)
            for photo, painted, stem in maps():
                regions.add(photo, painted, stem=stem)
            regions.close({})

    def _write_named(
        self,
        name: str,
        settings: dict[str, Any],
        photos: Callable[[], Iterable[tuple[Path, list[NamedMask]]]],
    ) -> None:
        folder = self.output / "named" / name
        if not _is_done(folder, settings):
            maps = NamedFolder(folder)
            for photo, named in photos():
                maps.add(photo, named)
            maps.close(settings)

    def _told(self) -> dict[str, list[dict[str, Any]]]:
        """What the teachers told, as rows of pairs, by photo."""
        told = defaultdict(list)
        for row in read_pairs(self.output / "pairs" / "teachers").to_pylist():
            told[row["image"]].append(row)
        return told

    def _named(
        self,
        photos: list[tuple[Path, AnnotatedPhoto | None]],
        told: dict[str, list[dict[str, Any]]],
    ) -> Iterator[tuple[Path, list[NamedMask]]]:
        """Each photo with the names of its instances and what the teachers told."""
        for path, photo in photos:
            rows = told.get(path.relative_to(self.data).as_posix(), ())
            regions = [(row["noun"], decode_mask(row)) for row in rows]
            yield path, name_photo(regions, photo.instances if photo else ())

    def _bsds_maps(self) -> Iterator[tuple[Path, np.ndarray, str]]:
        """Every annotator's map of every photo: all pixels belong to a region."""
        folder = self.data / "bsds500_train"
        for path in tqdm(sorted((folder / "regions").glob("*.png")), desc="bsds500_train"):
            photo = folder / "images" / f"{path.stem.rpartition('_')[0]}.jpg"
            yield photo, read_mask(path), path.stem

    def _teach(self) -> None:
        """Let the teachers label COCO's photos: a pairs folder and region folders at once."""
        pairs_folder = self.output / "pairs" / "teachers"
        settings = self._settings("regions", "research_only")
        if _is_done(pairs_folder, settings):
            return
        teachers = Teachers.load(self.weights, self.config.regions)
        pairs: list[Pair] = []
        for name, photos in self._photos_to_teach().items():
            regions = RegionFolder(self.output / "regions" / name)
            for path, photo in tqdm(photos, desc=f"teachers on {name}", unit="photo"):
                image = load_photo(path)
                instances = photo.instances if photo else ()
                found = teachers.label(image, instances)
                pairs += region_pairs(found, path.relative_to(self.data).as_posix())
                regions.add(path, region_map(found, instances, image.shape[:2]))
            regions.close(settings)
        write_pairs_folder(pairs_folder, pairs, images=self.data, config=settings)

    def _photos_to_teach(self) -> dict[str, list[tuple[Path, AnnotatedPhoto | None]]]:
        """The photos by region set, each with its instances where it has any."""
        found: dict[str, list] = {"coco": [], "coco128": [], "coco_unlabelled": []}
        for name in ("coco", "coco128"):
            annotated = {
                p.file_name: p
                for p in coco_photos(self.data / name / "instances.json", self._may_teach)
            }
            for path in sorted((self.data / name / "images").iterdir()):
                if self._may_teach(photo_key(path.name)):
                    photo = annotated.get(path.name)
                    found[name if photo else "coco_unlabelled"].append((path, photo))
        if self.config.research_only:
            paths = sorted((self.data / "flickr8k_1000" / "images").iterdir())
            found["flickr8k_1000"] = [(path, None) for path in paths]
        return found


def _is_done(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether the folder is complete and was made with these settings."""
    if not (folder / "summary.json").is_file():
        return False
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return run["config"] == settings
