"""What the Segmentor says about a photo."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor

from maskclip.json_file import write_json
from maskclip.regions import Regions
from maskclip.rle import encode_labels
from proposal.whole_file import open_whole

LISTED_NAMES = 10  # as many names ``repr`` lists


def ignore_label(count: int) -> int:
    """The label that says nothing, for ``count`` names: 255, above 255 names 65535.

    Raises:
        ValueError: more names than a 16-bit label image can hold.
    """
    if count > 65535:
        raise ValueError(f"at most 65535 names fit into 16-bit labels, got {count}: leave some out")
    return 255 if count <= 255 else 65535


def display_name(name: str) -> str:
    """What pictures and lines show for a name: its first synonym, on one line."""
    first = next((part for part in name.split("|") if part.strip()), name)
    return " ".join("".join(c if c.isprintable() else " " for c in first).split())


@dataclass(frozen=True)
class Segment:
    """The pixels of one name. H x W: the photo."""

    name: str  # as the user wrote it
    label: int
    score: float  # mean confidence over its pixels
    area: int  # pixels
    fraction: float  # of the photo
    box_xyxy: tuple[int, int, int, int]  # pixels, exclusive on the right and bottom
    mask: dict[str, Any]  # COCO RLE: {"size": [H, W], "counts": str}

    def decode(self) -> np.ndarray:
        """-> (H, W) bool."""
        return coco_mask.decode(self.mask).astype(bool)


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """A name, or none, for every pixel of a photo. H x W: the photo, C: names.

    Fields may be given as tensors; they are kept as arrays.

    Raises:
        ValueError: a field's shape or kind does not fit the others.
    """

    labels: np.ndarray  # (H, W) int64, index into ``names``, ``ignore`` where nothing was said
    names: tuple[str, ...]  # C of them, as the user wrote them
    confidence: np.ndarray  # (H, W) float32 in [0, 1]
    image: np.ndarray  # (H, W, 3) uint8 RGB
    ignore: int = -1  # by default ``ignore_label(C)``
    milliseconds: Mapping[str, float] = field(default_factory=dict)  # stage -> time
    model: Mapping[str, str] = field(default_factory=dict)  # name, proposer, clip, version
    scores: np.ndarray | None = None  # (C, H, W), if asked for
    regions: Regions | None = None  # if asked for

    def __post_init__(self) -> None:
        arrays = {"labels": np.int64, "confidence": np.float32, "image": np.uint8}
        if self.scores is not None:
            arrays["scores"] = np.float32
        for name, kind in arrays.items():
            object.__setattr__(self, name, as_array(getattr(self, name), kind))
        object.__setattr__(self, "names", tuple(self.names))
        if self.ignore == -1:
            object.__setattr__(self, "ignore", ignore_label(len(self.names)))
        self._check_shapes()
        self._check_labels()

    def _check_shapes(self) -> None:
        if self.labels.ndim != 2:
            raise ValueError(f"labels must be (H, W), got {self.labels.shape}")
        expected = {"confidence": self.labels.shape, "image": (*self.labels.shape, 3)}
        if self.scores is not None:
            expected["scores"] = (len(self.names), *self.labels.shape)
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                got = getattr(self, name).shape
                raise ValueError(f"{name} must be {shape} to match labels, got {got}")

    def _check_labels(self) -> None:
        known = (self.labels >= 0) & (self.labels < len(self.names))
        if not (known | (self.labels == self.ignore)).all():
            wrong = int(self.labels[~known & (self.labels != self.ignore)][0])
            raise ValueError(
                f"labels must be below {len(self.names)} (the number of names) or {self.ignore} "
                f"(ignore), got {wrong}"
            )

    def __repr__(self) -> str:
        """``Segmentation 720x1280: road 41%, tram 12%``."""
        height, width = self.labels.shape
        return f"Segmentation {height}x{width}: {self.summary(LISTED_NAMES)}"

    def summary(self, limit: int | None = None) -> str:
        """The names found with their share of the pixels, largest first: ``road 41%, tram 12%``."""
        shown = self.segments[:limit]
        parts = [f"{display_name(s.name)} {percent(s.fraction)}" for s in shown]
        if len(shown) < len(self.segments):
            parts.append(f"{len(self.segments) - len(shown)} more")
        return ", ".join(parts) or "nothing found"

    @cached_property
    def segments(self) -> list[Segment]:
        """One segment for every name that got pixels, largest first."""
        segments = [self._segment(label, rle) for label, rle in encode_labels(self.labels)]
        return sorted(filter(None, segments), key=lambda segment: (-segment.area, segment.label))

    def _segment(self, label: int, rle: dict[str, Any]) -> Segment | None:
        if label == self.ignore:
            return None
        area = int(coco_mask.area(rle))
        x, y, width, height = (int(value) for value in coco_mask.toBbox(rle))
        return Segment(
            name=self.names[label],
            label=label,
            score=round(float(self._confidence_sums[label]) / area, 4),
            area=area,
            fraction=round(area / self.labels.size, 6),
            box_xyxy=(x, y, x + width, y + height),
            mask={**rle, "counts": rle["counts"].decode("ascii")},
        )

    @cached_property
    def _confidence_sums(self) -> np.ndarray:
        return np.bincount(self.labels.ravel(), weights=self.confidence.ravel())

    def draw(self, **options: Any) -> Image.Image:
        """The photo under its names, with a legend; options: ``maskclip.draw.draw``."""
        from maskclip.draw import draw  # here, as reading a result needs no fonts

        return draw(self, **options)

    def to_json(self, path: str = "") -> dict[str, Any]:
        """What ``x.json`` holds, ``path`` being where the photo came from."""
        height, width = self.labels.shape
        return {
            "image": {"path": path, "height": height, "width": width},
            "names": list(self.names),
            "ignore": self.ignore,
            "segments": [{**vars(s), "box_xyxy": list(s.box_xyxy)} for s in self.segments],
            "model": dict(self.model),
            "milliseconds": {stage: round(ms, 1) for stage, ms in self.milliseconds.items()},
        }

    def save(
        self,
        folder: str | Path,
        stem: str,
        kinds: Sequence[str] = ("overlay", "labels", "json"),
        *,
        path: str = "",
    ) -> list[Path]:
        """Write ``stem.overlay.png``, ``stem.labels.png``, ``stem.json``, … into ``folder``.

        ``stem`` may hold subfolders. Every file appears whole. ``path`` is the photo's path, for
        the JSON file. -> the files, in the order of ``kinds``.

        Raises:
            ValueError: an unknown kind, or one that needs ``regions`` where there are none.
            OSError: a file cannot be written.
        """
        check_kinds(kinds)
        if self.regions is None and not {"masks", "embeddings"}.isdisjoint(kinds):
            raise ValueError(
                "masks and embeddings can be saved only of results that keep them: segment with "
                "return_regions=True"
            )
        files = []
        for kind in kinds:
            ending, write = WRITERS[kind]
            target = Path(folder) / f"{stem}{ending}"
            target.parent.mkdir(parents=True, exist_ok=True)
            write(self, target, path)
            files.append(target)
        return files

    def label_image(self) -> Image.Image:
        """The labels as a grey image of 8 bits, 16 above 255 names."""
        kind = np.uint8 if self.ignore <= 255 else np.uint16
        return Image.fromarray(self.labels.astype(kind))


def as_array(values: Tensor | np.ndarray, kind: type) -> np.ndarray:
    """A tensor from any device, or an array, as an array of ``kind``."""
    values = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    return np.asarray(values).astype(kind, copy=False)


def check_kinds(kinds: Iterable[str]) -> None:
    """Raise ValueError for a kind of output that does not exist."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ValueError(f"cannot save {unknown[0]!r}: choose from {', '.join(KINDS)}")


def percent(fraction: float) -> str:
    """0.412 -> ``41%``; what rounds to nothing although it is there -> ``<1%``."""
    rounded = round(100 * fraction)
    return "<1%" if fraction > 0 and not rounded else f"{rounded}%"


def _write_overlay(result: Segmentation, target: Path, _: str) -> None:
    with open_whole(target) as file:
        result.draw().save(file, "png", compress_level=4)


def _write_labels(result: Segmentation, target: Path, _: str) -> None:
    with open_whole(target) as file:
        result.label_image().save(file, "png")


def _write_json(result: Segmentation, target: Path, path: str) -> None:
    write_json(target, result.to_json(path))


def _write_masks(result: Segmentation, target: Path, _: str) -> None:
    with open_whole(target) as file:
        np.savez_compressed(
            file,
            masks=result.regions.masks(result.labels.shape),
            scores=as_array(result.regions.scores, np.float32),
            class_probs=as_array(result.regions.class_probs, np.float32),
        )


def _write_embeddings(result: Segmentation, target: Path, _: str) -> None:
    with open_whole(target) as file:
        np.savez_compressed(
            file,
            region_embeddings=as_array(result.regions.region_embeddings, np.float32),
            text_embeddings=as_array(result.regions.text_embeddings, np.float32),
            keep=as_array(result.regions.keep, np.bool_),
        )


WRITERS = {  # kind -> what the file's name ends in, how it is written
    "overlay": (".overlay.png", _write_overlay),
    "labels": (".labels.png", _write_labels),
    "json": (".json", _write_json),
    "masks": (".masks.npz", _write_masks),
    "embeddings": (".embeddings.npz", _write_embeddings),
}
KINDS = tuple(WRITERS)
