"""What one CLIP is worth on the held-out photos, from cached proposals and trunk features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from labeling.ablation.region_features import FeatureCache
from labeling.held_out import IGNORE, HeldOut, truth_labels
from maskclip.annotations import AnnotatedPhoto
from maskclip.assemble import assemble, weigh_masks
from maskclip.clip import MaskClip
from maskclip.evaluation import Confusion
from maskclip.fuse import name_logits
from maskclip.region_accuracy import region_accuracy
from maskclip.region_names import EncodedRegions, RegionNamer
from maskclip.segmentor_config import SegmentorConfig
from proposal.proposals import Proposals

SHOWN = ("mIoU", "mIoU_union", "pACC")
WEIGHTS = {"clip": 1.0, "stage1": 0.0}  # w of SPEC 2.5; that of "fused" is the recipe's


@dataclass(frozen=True)
class Protocol:
    """How the stages are joined; the same for all rows."""

    segmentor: SegmentorConfig
    fusion_weight: float

    def modes(self, *, stage1_names: bool) -> dict[str, SegmentorConfig]:
        """The Segmentor's settings for CLIP alone and, where stage 1 can name, fused and alone."""
        weights = dict(WEIGHTS) | {"fused": self.fusion_weight} if stage1_names else {"clip": 1.0}
        return {
            mode: replace(self.segmentor, fusion_weight=weight) for mode, weight in weights.items()
        }


class Evaluation:
    """Measures CLIPs of one trunk and background, in seconds each.

    Equal to ``labeling.quality`` on a Segmentor of these proposals (tested).
    """

    def __init__(self, held_out: HeldOut, cache: FeatureCache, protocol: Protocol) -> None:
        self.held_out = held_out
        self.cache = cache
        self.protocol = protocol

    @torch.no_grad()
    def measure(self, clip: MaskClip) -> dict[str, Any]:
        """``regions``: accuracy on the true masks; for each mode, metrics of the labels."""
        names = self.held_out.names
        said, true = [], []
        confusions: dict[str, Confusion] = {}
        texts = clip.encode_names(names)
        photos = zip(self.held_out.photos, self.cache.proposals.each(self.held_out), strict=True)
        for photo, proposals in tqdm(photos, "measure", len(self.held_out.photos), leave=False):
            said += self._name_truth(clip, photo, texts)
            true += [names.index(one.name) for one in photo.instances if not one.crowd]
            truth = truth_labels(photo, names)
            for mode, labels in self._label(clip, photo, proposals, texts).items():
                confusions.setdefault(mode, Confusion(names, IGNORE)).add(labels.numpy(), truth)
        regions = region_accuracy(said, true, names)
        found = {"regions": {"top1": regions.top1, "mean_per_class": regions.mean_per_class}}
        for mode, confusion in confusions.items():
            metrics = confusion.metrics()
            found[mode] = {key: metrics[key] for key in SHOWN}
        return found

    def _name_truth(
        self, clip: MaskClip, photo: AnnotatedPhoto, texts: tuple[Tensor, Tensor]
    ) -> list[int]:
        embeddings = self.cache.load(photo, "truth").encode(clip)  # (M, D)
        return name_logits(embeddings, *texts, clip.logit_scale).argmax(dim=1).tolist()

    def _label(
        self,
        clip: MaskClip,
        photo: AnnotatedPhoto,
        proposals: Proposals,
        texts: tuple[Tensor, Tensor],
    ) -> dict[str, Tensor]:
        """-> (H, W) int64 of every mode."""
        regions = self.cache.load(photo, "proposals")
        embeddings = regions.encode(clip)
        labels = {}
        modes = self.protocol.modes(stage1_names=proposals.embeddings is not None)
        for mode, config in modes.items():
            namer = RegionNamer(clip, config)
            encoded = EncodedRegions(regions.keep, embeddings)
            named = namer.name_encoded(proposals, encoded, texts)
            masks = weigh_masks(proposals, named.class_probs, config)
            labels[mode] = assemble(named.class_probs, masks, photo.size_hw)[0]
        return labels
