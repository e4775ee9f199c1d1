"""What the Segmentor says about a photo."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.nn import functional as F

from proposal.whole_file import open_whole

KINDS = ("overlay", "labels", "json", "masks", "embeddings")
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
    """What pictures and lines show for a name: its first synonym."""
    return next((part.strip() for part in name.split("|") if part.strip()), name)


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


@dataclass(frozen=True)
class Regions:
    """What lies behind a Segmentation: each proposal and what CLIP made of it.

    Q: proposals, N: those that yielded a crop, C: names, K: synonyms, D: embedding size,
    h x w: size of the masks.
    """

    mask_probs: Tensor  # (Q, h, w)
    mask_threshold: float  # above it a pixel belongs to the mask
    scores: Tensor  # (Q,) objectness
    class_probs: Tensor  # (Q, C)
    keep: Tensor  # (Q,) bool
    region_embeddings: Tensor  # (N, D) unit length
    text_embeddings: Tensor  # (K, D) unit length

    def masks(self, size_hw: tuple[int, int]) -> np.ndarray:
        """The proposals at the size of the photo -> (Q, H, W) bool."""
        masks = np.zeros((len(self.mask_probs), *size_hw), dtype=bool)
        for mask, probs in zip(masks, self.mask_probs, strict=True):  # one at a time: memory
            probs = probs[None, None].float()  # (1, 1, h, w)
            probs = F.interpolate(probs, size_hw, mode="bilinear", align_corners=False)
            mask[:] = (probs[0, 0] > self.mask_threshold).cpu().numpy()  # (H, W)
        return masks


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
            value = getattr(self, name)
            value = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
            object.__setattr__(self, name, np.asarray(value).astype(kind, copy=False))
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
            "segments": [{**vars(segment)} for segment in self.segments],
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
        writers = {
            "overlay": (".overlay.png", lambda file: self.draw().save(file, "png")),
            "labels": (".labels.png", lambda file: self.label_image().save(file, "png")),
            "json": (".json", lambda file: file.write(_json_bytes(self.to_json(path)))),
            "masks": (".masks.npz", self._write_masks),
            "embeddings": (".embeddings.npz", self._write_embeddings),
        }
        files = []
        for kind in kinds:
            ending, write = writers[kind]
            target = Path(folder) / f"{stem}{ending}"
            target.parent.mkdir(parents=True, exist_ok=True)
            with open_whole(target) as file:
                write(file)
            files.append(target)
        return files

    def label_image(self) -> Image.Image:
        """The labels as a grey image of 8 bits, 16 above 255 names."""
        kind = np.uint8 if self.ignore <= 255 else np.uint16
        return Image.fromarray(self.labels.astype(kind))

    def _write_masks(self, file: Any) -> None:
        regions = self.regions
        np.savez_compressed(
            file,
            masks=regions.masks(self.labels.shape),
            scores=regions.scores.float().cpu().numpy(),
            class_probs=regions.class_probs.float().cpu().numpy(),
        )

    def _write_embeddings(self, file: Any) -> None:
        regions = self.regions
        np.savez_compressed(
            file,
            region_embeddings=regions.region_embeddings.float().cpu().numpy(),
            text_embeddings=regions.text_embeddings.float().cpu().numpy(),
            keep=regions.keep.cpu().numpy(),
        )


def check_kinds(kinds: Iterable[str]) -> None:
    """Raise ValueError for a kind of output that does not exist."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ValueError(f"cannot save {unknown[0]!r}: choose from {', '.join(KINDS)}")


def percent(fraction: float) -> str:
    """0.412 -> ``41%``; what rounds to nothing although it is there -> ``<1%``."""
    return "<1%" if 0 < fraction < 0.005 else f"{100 * fraction:.0f}%"


def encode_labels(labels: np.ndarray) -> list[tuple[int, dict[str, Any]]]:
    """(H, W) integers -> (value, COCO RLE of its pixels) for every value there is.

    One pass over the pixels whatever the number of values: runs are found once, columns first as
    COCO does, then dealt out to their values.
    """
    height, width = labels.shape
    flat = labels.ravel(order="F")  # (H * W,)
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    ends = np.append(starts[1:], flat.size)
    order = np.argsort(flat[starts], kind="stable")
    values, first = np.unique(flat[starts][order], return_index=True)
    encoded = []
    for value, runs in zip(values, np.split(order, first[1:]), strict=True):
        edges = np.stack([starts[runs], ends[runs]], axis=1).ravel()
        counts = np.diff(edges, prepend=0, append=flat.size)
        counts = counts if counts[-1] else counts[:-1]
        rle = {"size": [height, width], "counts": counts.tolist()}
        encoded.append((int(value), coco_mask.frPyObjects(rle, height, width)))
    return encoded


def _json_bytes(content: dict[str, Any]) -> bytes:
    """UTF-8 that a person can read, too; bytes of file names that are no text become escapes."""
    text = json.dumps(content, ensure_ascii=False, indent=1)
    return text.encode("utf-8", "backslashreplace") + b"\n"
