"""Named regions of whole photos, told by the DeepLab teachers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from labeling.regions import Region, RegionConfig, largest_first, paint_regions, sure_regions
from labeling.teachers import TeacherDeepLab
from maskclip.annotations import Instance
from maskclip.pairs import Pair
from proposal.data.vocabulary import readable


@dataclass(frozen=True)
class Teachers:
    """The two networks: ``things`` knows VOC's 20 objects, ``stuff`` ADE's 31 commonest names."""

    things: TeacherDeepLab
    stuff: TeacherDeepLab
    config: RegionConfig

    @classmethod
    def load(cls, weights: str | Path, config: RegionConfig) -> Teachers:
        """Load both from the folder ``shared/weights``."""
        path = str(Path(weights) / "mobilenetv2_100_{}_deeplab.safetensors")
        voc, ade = (TeacherDeepLab.load(path.format(name)) for name in ("voc", "ade20k"))
        return cls(voc, ade, config)

    def label(self, image: np.ndarray, instances: tuple[Instance, ...] = ()) -> list[Region]:
        """(H, W, 3) uint8 RGB -> its sure regions.

        Things are asked for only where the photo has no ``instances``; stuff only where neither
        an instance (crowds count) nor a thing lies.
        """
        free = np.ones(image.shape[:2], dtype=bool)
        for instance in instances:
            free &= ~instance.mask
        things = [] if instances else self._ask(self.things, self.things.names, image, free)
        for thing in things:
            free &= ~thing.mask
        return things + self._ask(self.stuff, self.stuff.stuff, image, free)

    def _ask(
        self, teacher: TeacherDeepLab, wanted: tuple[str, ...], image: np.ndarray, free: np.ndarray
    ) -> list[Region]:
        probs = teacher.probs(image).cpu().numpy()
        return sure_regions(probs, teacher.names, wanted, self.config, free=free)


def region_pairs(regions: list[Region], image: str) -> list[Pair]:
    """The regions of a photo as pairs; score and probability are the teacher's mean confidence."""
    return [
        Pair.from_mask(
            region.mask,
            image=image,
            noun=region.name,
            proposal=index,
            score=region.confidence,
            probability=region.confidence,
        )
        for index, region in enumerate(regions)
    ]


def region_map(
    regions: list[Region], instances: tuple[Instance, ...], size_hw: tuple[int, int]
) -> np.ndarray:
    """What stage 1 is taught on a photo -> (H, W) map: 0 unlabelled, every other value a region.

    Instances lie on top of each other by size, smallest uppermost; crowds are left unlabelled.
    """
    crowd = np.zeros(size_hw, dtype=bool)
    for instance in instances:
        if instance.crowd:
            crowd |= instance.mask
    single = [instance.mask for instance in instances if not instance.crowd]
    masks = largest_first([region.mask for region in regions] + single)
    painted = paint_regions(masks, size_hw)
    only_crowd = crowd.copy()
    for mask in single:
        only_crowd &= ~mask
    painted[only_crowd] = 0
    return painted


def name_photo(
    regions: list[tuple[str, np.ndarray]], instances: tuple[Instance, ...]
) -> list[tuple[str, np.ndarray]]:
    """The teachers' regions and the instances of a photo -> names with (H, W) masks, lowest first.

    Instances lie on top of regions, and on top of each other by size, as in ``region_map``; crowds
    have no name of their own here.
    """
    single = [(readable(each.name), each.mask) for each in instances if not each.crowd]
    return regions + sorted(single, key=lambda each: int(each[1].sum()), reverse=True)


def load_photo(path: Path) -> np.ndarray:
    """A photo of the training data -> (H, W, 3) uint8 RGB, as stored."""
    with Image.open(path) as photo:
        return np.array(photo.convert("RGB"))
