"""What each proposal of a photo shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskclip.clip import MaskClip
from maskclip.crops import region_boxes
from maskclip.dense_names import DenseNames
from maskclip.fuse import clip_alone, fuse, head_starts, name_logits, proposal_probs
from maskclip.segmentor_config import SegmentorConfig
from maskclip.stopwatch import Stopwatch
from proposal.maskformer import TEMPERATURE
from proposal.proposals import Proposals

REGIONS_AT_ONCE = 128  # cropped before they are encoded: bounds memory


@dataclass(frozen=True)
class EncodedRegions:
    """A photo before it is compared with names.

    Q: proposals, N: those that yield a crop, D: embedding size, u x v: cells of the photo's map.
    """

    keep: Tensor  # (Q,) bool
    region_embeddings: Tensor  # (N, D) unit length
    dense_embeddings: Tensor | None = None  # (D, u, v) unit length; none with dense_weight 0


@dataclass(frozen=True)
class NamedRegions:
    """Q: proposals, N: those that yield a crop, C: names, D: embedding size."""

    class_probs: Tensor  # (Q, C)
    keep: Tensor  # (Q,) bool
    region_embeddings: Tensor  # (N, D) unit length
    dense: DenseNames | None = None


@dataclass(frozen=True)
class RegionNamer:
    """Names proposals by CLIP, fused with what stage 1 says of them (SPEC 2.2 to 2.5).

    Q: proposals, N: those that yield a crop, C: names, K: synonyms, D: embedding size.
    """

    clip: MaskClip
    config: SegmentorConfig

    @property
    def scale(self) -> float:
        """What cosines are multiplied with before the softmax over names."""
        compat = TEMPERATURE if self.config.compat else self.clip.logit_scale
        return self.config.temperature or compat

    def name(
        self,
        photo: np.ndarray,
        proposals: Proposals,
        texts: tuple[Tensor, Tensor],
        watch: Stopwatch,
    ) -> NamedRegions:
        """(H, W, 3) uint8 RGB, Q proposals, embeddings (K, D) with owner (K,) -> NamedRegions."""
        named = self.name_encoded(proposals, self.encode(photo, proposals, watch), texts)
        watch.lap("clip")
        return named

    def name_encoded(
        self,
        proposals: Proposals,
        encoded: EncodedRegions,
        texts: tuple[Tensor, Tensor],
    ) -> NamedRegions:
        """``name`` for what ``encode`` gave, which several settings may share."""
        config, keep = self.config, encoded.keep
        ahead = None
        if config.head_start:
            untaught = self.clip.find_untaught(texts[0])  # (K,)
            ahead = head_starts(untaught, texts[1], config.head_start)  # (C,)
        clip_probs = _name_probs(encoded.region_embeddings, texts, self.scale, ahead)  # (N, C)
        if proposals.embeddings is None or config.fusion_weight == 1:
            class_probs = clip_alone(clip_probs, keep)
        else:
            embeddings, no_object = self._stage1_embeddings(proposals)
            stage1_probs = proposal_probs(embeddings, no_object, *texts, TEMPERATURE)  # (Q, C)
            weight = config.fusion_weight
            class_probs = fuse(stage1_probs, clip_probs, keep, weight, compat=config.compat)
        dense = None
        if config.dense_weight and encoded.dense_embeddings is not None:
            cells = encoded.dense_embeddings.flatten(1).mT  # (u * v, D)
            scale = config.dense_temperature or self.clip.logit_scale
            probs = _name_probs(cells, texts, scale, ahead)
            dense = DenseNames(probs, encoded.dense_embeddings.shape[1:], config.dense_weight)
        return NamedRegions(class_probs, keep, encoded.region_embeddings, dense)

    def encode(self, photo: np.ndarray, proposals: Proposals, watch: Stopwatch) -> EncodedRegions:
        """(H, W, 3), Q proposals -> EncodedRegions."""
        clip, device = self.clip, self.clip.device
        keep, boxes_xyxy = region_boxes(proposals.mask_probs, self.config.mask_threshold)
        kept = keep.nonzero()[:, 0]
        seen = clip.see(photo) if len(kept) else None
        watch.lap("clip")
        embeddings = [torch.zeros(0, clip.embed_dim, device=device)]
        for first in range(0, len(kept), REGIONS_AT_ONCE):
            some = slice(first, first + REGIONS_AT_ONCE)
            masks = proposals.mask_probs[kept[some]] > self.config.mask_threshold
            compat = self.config.compat
            crops, crop_masks = clip.crop(photo, masks, boxes_xyxy[some], compat=compat)
            watch.lap("crop")
            context, batch_size = clip.context(seen, masks), self.config.clip_batch_size
            embeddings.append(
                clip.encode_regions(crops, crop_masks, context, batch_size=batch_size)
            )
            watch.lap("clip")
        dense = None
        if self.config.dense_weight and len(kept):
            dense = clip.encode_places(seen)
            watch.lap("clip")
        return EncodedRegions(keep.to(device), torch.cat(embeddings), dense)

    def _stage1_embeddings(self, proposals: Proposals) -> tuple[Tensor, Tensor | None]:
        embeddings, no_object = proposals.embeddings, proposals.no_object
        if embeddings.shape[1] != self.clip.embed_dim:
            raise ValueError(
                f"the proposer speaks in {embeddings.shape[1]} dimensions, this CLIP in "
                f"{self.clip.embed_dim}: set segmentor.fusion_weight=1 to use CLIP alone"
            )
        no_object = None if no_object is None else no_object.to(self.clip.device)
        return embeddings.to(self.clip.device), no_object


def _name_probs(
    embeddings: Tensor, texts: tuple[Tensor, Tensor], scale: float, ahead: Tensor | None
) -> Tensor:
    """(N, D) unit length, embeddings (K, D) with owner (K,), head starts (C,) -> (N, C)."""
    logits = name_logits(embeddings, *texts, scale)
    return (logits if ahead is None else logits + scale * ahead).softmax(dim=1)
