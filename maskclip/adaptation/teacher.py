"""A CLIP in training: batches of regions in, losses out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskclip.adaptation.batches import Batch
from maskclip.adaptation.config import TrainConfig
from maskclip.adaptation.losses import LOSS_FUNCTIONS
from maskclip.adaptation.pair_table import PairTable
from maskclip.clip import MaskClip
from maskclip.names import Vocabulary
from maskclip.templates import load_templates

MAX_LOG_SCALE = float(np.log(100))


class RegionTeacher(nn.Module):
    """Compares a CLIP's regions with the (locked) embeddings of all nouns.

    N: regions, K: nouns, D: embedding size.
    """

    def __init__(self, clip: MaskClip, table: PairTable, config: TrainConfig) -> None:
        super().__init__()
        self.clip = clip
        self.config = config
        embeddings = encode_nouns(clip, table.nouns)  # (K, D)
        close = (embeddings @ embeddings.mT > config.synonym_cosine).cpu()
        related = torch.from_numpy(table.related()) | close
        related &= ~torch.from_numpy(table.exclusive_mask())
        self.register_buffer("noun_embeddings", embeddings, persistent=False)
        self.register_buffer("related", related.to(clip.device), persistent=False)  # (K, K)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """N regions -> the loss, and (without gradient) how many were named rightly."""
        clip, device = self.clip, self.clip.device
        crop_masks, nouns = batch.crop_masks.to(device), batch.nouns.to(device)
        if not clip.config.mask_prompts:
            crop_masks = torch.ones_like(crop_masks)
        if batch.are_features:
            embeddings = clip.tower.forward_features(batch.crops.to(device), crop_masks)  # (N, D)
        else:
            embeddings = clip.tower(clip.normalise(batch.crops.to(device)), crop_masks)  # (N, D)
        loss = LOSS_FUNCTIONS[self.config.loss](
            F.normalize(embeddings, dim=-1),
            self.noun_embeddings,
            nouns,
            scale=clip.log_logit_scale.exp(),
            related=self.related,
            label_smoothing=self.config.label_smoothing,
        )
        return {f"loss_{self.config.loss}": loss}

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Keep the logit scale between 1 and 100."""
        self.clip.log_logit_scale.clamp_(0, MAX_LOG_SCALE)


@torch.no_grad()
def encode_nouns(clip: MaskClip, nouns: tuple[str, ...]) -> Tensor:
    """K nouns, ``|`` and equal ones included as they are -> (K, D) unit length."""
    vocabulary = Vocabulary(nouns, nouns, tuple(range(len(nouns))))
    templates = load_templates(clip.config.templates)
    return clip.text_encoder.encode_names(vocabulary, templates).to(clip.device)
