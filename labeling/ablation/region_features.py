"""What the frozen trunk of all rows makes of the held-out photos' regions, once per background."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from labeling.ablation.proposals import ProposalCache
from labeling.ablation.recipe import digest
from labeling.held_out import HeldOut
from maskclip.adaptation.features import (
    cells_inside,
    fingerprint_trunk,
    fingerprint_weights,
    spread_cells,
)
from maskclip.annotations import AnnotatedPhoto
from maskclip.clip import MaskClip
from maskclip.crops import region_boxes
from proposal.whole_file import open_whole

AT_ONCE = 64  # regions in one forward


@dataclass(frozen=True)
class RegionFeatures:
    """The regions of one photo that yield a crop. N of Q. F: channels, h x w: the trunk's grid."""

    keep: Tensor  # (Q,) bool
    features: Tensor  # (N, F, h, w)
    inside: Tensor  # (N, h, w) bool, cells with any pixel of the mask
    context: Tensor | None = None  # (N, 2, F) of the whole photo, for towers that take it

    def encode(self, clip: MaskClip) -> Tensor:
        """What the rest of the tower makes of them -> (N, D) unit length."""
        found = [self.features.new_zeros(0, clip.embed_dim)]
        for start in range(0, len(self.features), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            crop_masks = spread_cells(self.inside[some], clip.side)
            if not clip.config.mask_prompts:
                crop_masks = torch.ones_like(crop_masks)
            context = None if self.context is None else self.context[some]
            tower = clip.tower
            found.append(tower.forward_features(self.features[some], crop_masks, context).float())
        return F.normalize(torch.cat(found), dim=-1)  # (N, D)


class FeatureCache:
    """Features of every photo's proposals and true masks on disk, for one trunk and background.

    Crops are cut as ``RegionNamer`` and ``classify_masks`` cut them.
    """

    def __init__(
        self, folder: Path, clip: MaskClip, proposals: ProposalCache, mask_threshold: float
    ) -> None:
        """Where all such caches are, a CLIP with the trunk and crop settings, whose regions."""
        self.clip = clip
        self.proposals = proposals
        self.mask_threshold = mask_threshold
        config = clip.config
        crops = [clip.side, config.background, config.background_strength, config.box_margin]
        crops += [config.fill, config.mean, config.std, config.interpolation]
        seen_by = (
            [fingerprint_weights(clip.photo_context)] if clip.photo_context is not None else []
        )
        self.key = digest(fingerprint_trunk(clip), crops, proposals.key, mask_threshold, *seen_by)
        self.folder = folder / self.key

    def fill(self, held_out: HeldOut) -> None:
        """Compute what is not there yet."""
        if all(self._path(photo, "truth").is_file() for photo in held_out.photos):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        title = f"regions, background {self.clip.config.background}"
        for image, photo in held_out.each(title):
            if not self._path(photo, "truth").is_file():
                proposals = self.proposals.load(photo.file_name)
                masks = proposals.mask_probs > self.mask_threshold
                self._write(self._path(photo, "proposals"), self._look(image, masks))
                self._write(self._path(photo, "truth"), self._look(image, true_masks(photo)))

    def load(self, photo: AnnotatedPhoto, kind: str) -> RegionFeatures:
        """Of one photo's ``proposals`` or ``truth``."""
        with np.load(self._path(photo, kind), allow_pickle=False) as content:
            return RegionFeatures(**{name: torch.from_numpy(content[name]) for name in content})

    @torch.no_grad()
    def _look(self, image: np.ndarray, masks: Tensor) -> RegionFeatures:
        """(H, W, 3) uint8 RGB, (Q, h, w) bool."""
        clip, tower = self.clip, self.clip.tower
        keep, boxes_xyxy = region_boxes(masks, self.mask_threshold)
        masks = masks[keep]
        context = clip.context(clip.see(image), masks)
        grid = tower.tokens.grid
        features, inside = [], [torch.zeros(0, *grid, dtype=torch.bool)]
        for start in range(0, max(len(masks), 1), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            crops, crop_masks = clip.crop(image, masks[some], boxes_xyxy[some])
            features.append(tower.trunk_features(clip.normalise(crops)))
            inside.append(cells_inside(crop_masks, grid))
        return RegionFeatures(keep, torch.cat(features), torch.cat(inside), context)

    def _write(self, path: Path, found: RegionFeatures) -> None:
        with open_whole(path) as file:
            parts = {name: part for name, part in vars(found).items() if part is not None}
            np.savez(file, **{name: part.contiguous().numpy() for name, part in parts.items()})

    def _path(self, photo: AnnotatedPhoto, kind: str) -> Path:
        return self.folder / f"{Path(photo.file_name).stem}.{kind}.npz"


def true_masks(photo: AnnotatedPhoto) -> Tensor:
    """The masks of a photo's single objects -> (M, H, W) bool."""
    masks = [torch.from_numpy(one.mask) for one in photo.instances if not one.crowd]
    return torch.stack(masks) if masks else torch.zeros(0, *photo.size_hw, dtype=torch.bool)
