"""What a data set says about one photo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

UNLABELLED = ("ignore", "background")  # what a pixel without any label is taken for


@dataclass(frozen=True)
class Annotation:
    """Masks with their categories. H x W: the photo, M: masks (may be 0)."""

    masks: np.ndarray  # (M, H, W) bool
    categories: np.ndarray  # (M,) int64, index into the data set's names; 0 where it has none
    areas: np.ndarray  # (M,) float, as the data set states them
    ignored: np.ndarray  # (H, W) bool: crowds, unlabelled pixels; in none of the masks

    def per_category(self) -> Annotation:
        """One mask for each category that is present, by rising category."""
        present = np.unique(self.categories)
        masks = [self.masks[self.categories == each].any(axis=0) for each in present]
        return annotate(np.stack(masks) if masks else self.masks, present, ignored=self.ignored)


def annotate(
    masks: np.ndarray,
    categories: np.ndarray | None = None,
    *,
    areas: np.ndarray | None = None,
    ignored: np.ndarray | None = None,
) -> Annotation:
    """(M, H, W) bool masks, with what is known of them -> an Annotation; the rest is filled in."""
    count = len(masks)
    if categories is None:
        categories = np.zeros(count, dtype=np.int64)
    if areas is None:
        areas = masks.sum(axis=(1, 2)).astype(float)
    if ignored is None:
        ignored = np.zeros(masks.shape[1:], dtype=bool)
    return Annotation(masks, categories.astype(np.int64), areas, ignored & ~masks.any(axis=0))
