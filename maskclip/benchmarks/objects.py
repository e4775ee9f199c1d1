"""What a model does with annotated objects: finds them, names them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskclip.benchmarks.model import Model
from maskclip.benchmarks.runner import Measure
from maskclip.datasets.label_files import listing
from maskclip.images import load_image
from maskclip.region_accuracy import classify_masks, region_accuracy
from proposal.data.coco import CocoPhoto, decode_segmentation, read_named_coco
from proposal.proposals import propose_all
from proposal.recall import PhotoRecall, Truth, photo_recall, recall_metrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ObjectSet:
    """Photos with instances, not yet decoded."""

    photos: tuple[CocoPhoto, ...]
    names: tuple[str, ...]  # by category id

    @classmethod
    def load(cls, instances: Path, images: Path, limit: int | None = None) -> ObjectSet:
        """Read a COCO instances JSON; photos that are not in ``images`` are left out, and told.

        Raises:
            FileNotFoundError: a file or folder is missing, or all photos are.
            ValueError: the JSON is no COCO instances file.
        """
        photos, names = read_named_coco(instances, images)
        missing = [photo.path.name for photo in photos if not photo.path.is_file()]
        if len(missing) == len(photos):
            raise FileNotFoundError(
                f"none of the {len(photos)} photos of {instances} is in {images}: "
                f"{listing(missing)}"
            )
        if missing:
            logger.warning(
                "%d of %d photos are not in %s and are left out: %s",
                *(len(missing), len(photos), images, listing(missing)),
            )
        there = [photo for photo in photos if photo.path.is_file()][:limit]
        return cls(tuple(there), names)


@dataclass(frozen=True)
class ProposalRecall:
    """Class-agnostic recall; a record is one photo's share."""

    model: Model

    def open(self, device: str) -> Measure:
        """Load stage 1 -> a function from photos to their records."""
        proposer = self.model.stage1(device)

        @torch.no_grad()
        def measure(photos: Sequence[CocoPhoto]) -> list[Any]:
            images = [load_photo(photo) for photo in photos]
            found = propose_all(proposer, images, [photo.stem for photo in photos])
            pairs = zip(found, photos, strict=True)
            return [asdict(photo_recall(each, true_objects(photo))) for each, photo in pairs]

        return measure

    @staticmethod
    def metrics(records: Sequence[Any]) -> dict[str, float | None]:
        """All photos' records -> percent; None where there was nothing to find."""
        found = recall_metrics(PhotoRecall(**record) for record in records)
        return {key: None if np.isnan(value) else value for key, value in found.items()}


@dataclass(frozen=True)
class RegionNaming:
    """The name CLIP gives to each true mask; a record holds names said and true."""

    model: Model
    names: tuple[str, ...]

    def open(self, device: str) -> Measure:
        """Load stage 2 -> a function from photos to their records."""
        clip = self.model.stage2(device)

        def measure(photos: Sequence[CocoPhoto]) -> list[Any]:
            records = []
            for photo in photos:
                single, masks = decode_objects(photo)
                said = []
                if len(masks):
                    logits = classify_masks(clip, load_photo(photo), masks, self.names)
                    said = logits.argmax(dim=1).tolist()
                true = [photo.categories[each["category_id"]] for each in single]
                records.append({"said": said, "true": true})
            return records

        return measure

    def metrics(self, records: Sequence[Any]) -> dict[str, Any]:
        """All photos' records -> percent."""
        said = [label for record in records for label in record["said"]]
        true = [label for record in records for label in record["true"]]
        return asdict(region_accuracy(said, true, self.names))


def true_objects(photo: CocoPhoto) -> Truth:
    """The objects of a photo, without crowds."""
    single, masks = decode_objects(photo)
    areas = [float(each.get("area", mask.sum())) for each, mask in zip(single, masks, strict=True)]
    return Truth(masks, np.array(areas))


def decode_objects(photo: CocoPhoto) -> tuple[list[dict[str, Any]], np.ndarray]:
    """-> annotations that are no crowds and have pixels, their masks (M, H, W) bool."""
    single = [each for each in photo.annotations if not each.get("iscrowd")]
    masks = [decode_segmentation(each["segmentation"], photo.size_hw) for each in single]
    kept = [(each, mask) for each, mask in zip(single, masks, strict=True) if mask.any()]
    stack = np.array([mask for _, mask in kept], dtype=bool).reshape(-1, *photo.size_hw)
    return [each for each, _ in kept], stack


def load_photo(photo: CocoPhoto) -> np.ndarray:
    """-> (H, W, 3) uint8 RGB of the size that the annotations state.

    Raises:
        ValueError: it has another size.
    """
    image = load_image(photo.path)
    if image.shape[:2] != tuple(photo.size_hw):
        raise ValueError(
            f"{photo.path} must be {photo.size_hw[0]} x {photo.size_hw[1]} as its annotations say, "
            f"got {image.shape[0]} x {image.shape[1]} (height x width)"
        )
    return image
