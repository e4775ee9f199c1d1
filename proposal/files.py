"""Ready masks from files as proposals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from proposal.coco_masks import CocoMasks, is_coco
from proposal.data.regions import PHOTO_ENDINGS
from proposal.json_content import read_json
from proposal.proposals import Proposals
from proposal.region_files import (
    Regions,
    read_region_json,
    read_region_npz,
    read_region_png,
)

READERS = {  # kind -> what a photo's file ends in, how it is read
    "png": (".png", read_region_png),
    "json": (".json", read_region_json),
    "npz": (".masks.npz", read_region_npz),
}
NOT_MASKS = ("summary.json", "run.json")  # what our own tools write beside masks
MOST_FILES = 8  # JSON files of a folder that are opened to see whether one is for all photos


@dataclass(frozen=True)
class FilesConfig:
    """Settings of ready masks as a proposer.

    Raises:
        ValueError: there is no such kind.
    """

    kind: str = "auto"  # png, json, npz: a file for each photo; coco: one for all; auto: what is

    def __post_init__(self) -> None:
        known = ("auto", *READERS, "coco")
        if self.kind not in known:
            raise ValueError(f"kind must be one of {', '.join(known)}, got {self.kind!r}")


class FilesProposer:
    """Reads ``<folder>/<stem>`` + ``.png``, ``.json`` or ``.masks.npz``, or one COCO file for all.

    A PNG is a label map of 8 or 16 bits or a palette: each value but 0 is a region with score 1.
    Masks may have any resolution of the photo's shape. For what JSON files may hold see
    ``read_region_json`` and ``CocoMasks``; a COCO file may be given itself instead of its folder.

    Raises:
        FileNotFoundError: there is no such folder or file.
    """

    def __init__(self, place: Path | str, config: FilesConfig | None = None) -> None:
        self.place = Path(place).expanduser()
        self.config = config or FilesConfig()
        self.reference = f"files:{self.place.resolve()}"  # how a checkpoint finds it again
        if not self.place.is_dir() and not (self.place.is_file() and self.place.suffix == ".json"):
            raise FileNotFoundError(
                f"files: needs a folder of masks (PNG, JSON, npz) or a COCO JSON, found no {place}"
            )

    def propose(self, image: np.ndarray) -> Proposals:
        """Never works: pixels do not tell which file belongs to them.

        Raises:
            ValueError: always; ``propose_batch`` says which.
        """
        raise ValueError(
            f"files:{self.place} must know the file name of a photo {image.shape[:2]}: "
            "give photos as paths, or call propose_batch(images, stems)"
        )

    def propose_batch(
        self, images: Sequence[np.ndarray], stems: Sequence[str | None]
    ) -> list[Proposals]:
        """B images (H, W, 3) uint8 RGB and their B file stems -> B Proposals.

        A stem may hold the photo's subfolders and its ending: ``a/x.jpg`` finds ``a/x.jpg.png``,
        ``a/x.png``, ``x.jpg.png`` or ``x.png``, in this order.

        Raises:
            FileNotFoundError: there is nothing for a photo.
            ValueError: several files answer, or what they hold is damaged or does not fit.
        """
        return [self._read(image, stem) for image, stem in zip(images, stems, strict=True)]

    def _read(self, image: np.ndarray, stem: str | None) -> Proposals:
        if stem is None:
            return self.propose(image)
        photo_hw = image.shape[:2]
        path, (masks, scores) = self._find(stem, photo_hw)
        height, width = masks.shape[1:]
        # Within a pixel of the photo's shape, which is what rounding a resized photo may cost
        if abs(height * photo_hw[1] - width * photo_hw[0]) > max(photo_hw):
            raise ValueError(
                f"{path} must have the shape of its photo {photo_hw}, got {(height, width)}"
            )
        if not ((scores >= 0) & (scores <= 1)).all():
            raise ValueError(
                f"{path} must have scores in [0, 1], got {scores.min()}, {scores.max()}"
            )
        return Proposals(torch.from_numpy(masks).float(), torch.from_numpy(scores).float())

    def _find(self, stem: str, photo_hw: tuple[int, int]) -> tuple[Path, Regions]:
        names = list(_names(stem))
        for name in names if self.place.is_dir() else ():
            found = {}
            for kind, (ending, _) in READERS.items():
                path = self.place / f"{name}{ending}"
                if self.config.kind in ("auto", kind) and path.is_file():
                    found[kind] = path
            if len(found) > 1:
                raise ValueError(
                    f"files:{self.place} has several files for the photo {name} "
                    f"({', '.join(path.name for path in found.values())}): choose with "
                    f"--set proposer.kind={' or '.join(found)}"
                )
            for kind, path in found.items():
                return path, READERS[kind][1](path, photo_hw)
        for coco in self._for_all if self.config.kind in ("auto", "coco") else ():
            for name in coco.known(names):
                return coco.path, coco.regions(name, photo_hw)
        raise FileNotFoundError(self._absence(names[-1]))

    @cached_property
    def _for_all(self) -> list[CocoMasks]:
        """The file for all photos: one, or none."""
        if self.place.is_file():
            return [CocoMasks.read(self.place)]
        files = [path for path in sorted(self.place.glob("*.json")) if path.name not in NOT_MASKS]
        found = []
        for path in files if len(files) <= MOST_FILES else ():
            content = read_json(path)
            if is_coco(content):
                found.append(CocoMasks(path, content))
        if len(found) > 1:
            names = ", ".join(coco.path.name for coco in found)
            raise ValueError(
                f"files:{self.place} has several COCO files ({names}): give the one that is meant, "
                f"files:{found[0].path}"
            )
        return found

    def _absence(self, name: str) -> str:
        if self.place.is_file():
            return f"{self.place} has nothing for the photo {name}"
        kinds = [self.config.kind] if self.config.kind in READERS else list(READERS)
        wanted = [] if self.config.kind == "coco" else [f"{name}{READERS[k][0]}" for k in kinds]
        if self.config.kind in ("auto", "coco"):
            wanted.append("a COCO JSON that has it")
        return f"{self.place} has no masks for the photo {name}: expected {' or '.join(wanted)}"


def _names(stem: str) -> Iterator[str]:
    """``a/x.jpg`` -> a/x.jpg, a/x, x.jpg, x: under which names a photo's masks may lie."""
    for path in dict.fromkeys((PurePosixPath(stem), PurePosixPath(PurePosixPath(stem).name))):
        yield str(path)
        if path.suffix.lower() in PHOTO_ENDINGS:
            yield str(path.with_suffix(""))
