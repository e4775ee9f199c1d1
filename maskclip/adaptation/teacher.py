"""A CLIP in training: batches of regions in, losses out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from maskclip.adaptation.batches import Batch
from maskclip.adaptation.config import TrainConfig
from maskclip.adaptation.gathering import gather_rows
from maskclip.adaptation.losses import BATCH_LOSSES, vocabulary_loss
from maskclip.adaptation.pair_table import PairTable
from maskclip.adaptation.relations import NounRelations
from maskclip.clip import MaskClip
from proposal.training_loop import mixed_precision

MAX_LOG_SCALE = float(np.log(100))


class RegionTeacher(nn.Module):
    """Compares a CLIP's regions with the texts of all nouns, which are read once.

    With learned tokens before the nouns, those of the batch are read in every step.
    n: regions of this process, N: of all of them, K: nouns, D: embedding size.
    """

    def __init__(
        self,
        clip: MaskClip,
        table: PairTable,
        config: TrainConfig,
        *,
        cached: bool = False,
        hint_weight: float = 0.0,
    ) -> None:
        """``cached``: batches hold what a hybrid's trunk made of the crops.

        ``hint_weight``: of the loss that draws regions to what a classifier makes of them.
        """
        super().__init__()
        self.hint_weight = hint_weight
        self.clip = clip
        self.config = config
        self.cached = cached
        self.nouns = table.nouns
        texts = clip.encode_nouns(table.nouns)  # (K, D)
        self.relations = NounRelations(table, texts, config.synonym_cosine)
        taught = without_mean(texts) if config.centre_texts else texts
        self.register_buffer("taught", taught, persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """n regions of this process -> the losses, over all processes where they contrast."""
        nouns = batch.nouns.to(self.clip.device)
        regions = self.encode(batch)  # (n, D)
        losses = self._contrast(regions, nouns)
        if self.hint_weight:
            away = 1 - (regions * batch.hints.to(regions)).sum(-1)  # (n,)
            losses["loss_classifier"] = self.hint_weight * away.mean()
        return losses

    def _contrast(self, regions: Tensor, nouns: Tensor) -> dict[str, Tensor]:
        """(n, D) unit length, (n,) int64 -> the loss over nouns."""
        config = self.config
        options = {
            "scale": self.clip.log_logit_scale.exp(),
            "label_smoothing": config.label_smoothing,
        }
        if config.loss == "vocabulary":
            everything = torch.arange(len(self.nouns), device=nouns.device)
            texts, related = self.texts(everything), self.relations(nouns)
            return {
                "loss_vocabulary": vocabulary_loss(
                    regions, texts, nouns, related=related, **options
                )
            }
        regions, nouns = gather_rows(regions), gather_rows(nouns)  # (N, D), (N,)
        loss = BATCH_LOSSES[config.loss](
            regions,
            self.texts(nouns),
            nouns,
            related=self.relations(nouns, nouns),
            symmetric=config.symmetric,
            **options,
        )
        return {f"loss_{config.loss}": loss}

    def encode(self, batch: Batch) -> Tensor:
        """n regions -> (n, D) unit length, in ``train.accumulate`` parts.

        What is inside the tower is kept for one part at a time and computed again for the
        gradient: the loss still sees all regions, as if there had been one part.
        """
        parts = self.config.accumulate
        if len(batch.nouns) < parts:
            raise ValueError(
                f"train.accumulate must be at most the {len(batch.nouns)} regions of a process, "
                f"got {parts}"
            )
        if parts == 1:
            embeddings = self._embed(batch.crops, batch.crop_masks, batch.context)
        else:
            context = [None] * parts
            if batch.context is not None:
                context = batch.context.tensor_split(parts)
            pieces = zip(
                batch.crops.tensor_split(parts),
                batch.crop_masks.tensor_split(parts),
                context,
                strict=True,
            )
            embeddings = torch.cat(
                [checkpoint(self._embed, *piece, use_reentrant=False) for piece in pieces]
            )
        return F.normalize(embeddings, dim=-1)

    def texts(self, nouns: Tensor) -> Tensor:
        """(N,) int64 -> (N, D) unit length."""
        if self.clip.text_context is None:
            return self.taught[nouns]
        distinct, place = nouns.unique(return_inverse=True)
        names = [self.nouns[noun] for noun in distinct.tolist()]
        return self.clip.text_encoder.learn_names(names)[place]

    @torch.no_grad()
    def clamp_scale(self, *_: object) -> None:
        """Keep the logit scale between 1 and 100."""
        self.clip.log_logit_scale.clamp_(0, MAX_LOG_SCALE)

    def _embed(self, crops: Tensor, crop_masks: Tensor, context: Tensor | None) -> Tensor:
        """Crops or trunk features, (n, S, S) bool, (n, 2, F) or none -> (n, D) float32."""
        clip = self.clip
        crops = crops.to(clip.device, non_blocking=True)
        crop_masks = crop_masks.to(clip.device, non_blocking=True)
        if context is not None:
            context = context.to(clip.device, non_blocking=True)
        with mixed_precision(clip.device, self.config.precision):
            if not self.cached:
                return clip.embed(crops, crop_masks, context).float()
            if not clip.config.mask_prompts:
                crop_masks = torch.ones_like(crop_masks)
            return clip.tower.forward_features(crops, crop_masks, context).float()


def without_mean(texts: Tensor) -> Tensor:
    """(K, D) unit length -> (K, D) unit length: what tells texts apart.

    Sentence embeddings share a large mean (Mu and Viswanath, arXiv 1702.01417).
    """
    return F.normalize(texts - texts.mean(dim=0), dim=-1)
