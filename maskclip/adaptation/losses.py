"""Contrastive losses that teach regions their nouns."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MASKED = -1e4  # added to logits that must not count; finite, so that 0 * MASKED is 0


def vocabulary_loss(
    region_embeddings: Tensor,
    noun_embeddings: Tensor,
    nouns: Tensor,
    *,
    scale: Tensor,
    related: Tensor,
    label_smoothing: float = 0.0,
) -> Tensor:
    """(N, D), (K, D) of all K nouns, (N,) int64 which is whose, (K, K) bool -> ().

    Cross-entropy over all nouns but those related to the region's own.
    """
    logits = scale * region_embeddings @ noun_embeddings.mT  # (N, K)
    others = related[nouns].scatter(1, nouns[:, None], False)  # (N, K)
    log_probs = F.log_softmax(logits.masked_fill(others, MASKED), dim=1)  # (N, K)
    own = log_probs.gather(1, nouns[:, None]).mean()
    if not label_smoothing:
        return -own
    allowed = (~others).float()  # (N, K)
    spread = ((log_probs * allowed).sum(1) / allowed.sum(1)).mean()
    return -(1 - label_smoothing) * own - label_smoothing * spread


def multi_positive_loss(
    region_embeddings: Tensor,
    noun_embeddings: Tensor,
    nouns: Tensor,
    *,
    scale: Tensor,
    related: Tensor,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The same arguments -> (): symmetric over the batch, equal nouns being positives together.

    Related nouns are neither positives nor negatives of each other.
    """
    if not len(nouns):
        return region_embeddings.sum() * 0.0
    logits = scale * region_embeddings @ noun_embeddings[nouns].mT  # (N, N)
    same = nouns[:, None] == nouns[None, :]  # (N, N)
    others = related[nouns][:, nouns] & ~same
    logits = logits.masked_fill(others, MASKED)
    allowed = (~others).float()
    targets = same / same.sum(1, keepdim=True)  # symmetric where rows and columns are alike
    smooth = allowed / allowed.sum(1, keepdim=True)
    targets = (1 - label_smoothing) * targets + label_smoothing * smooth
    to_noun = -(targets * F.log_softmax(logits, dim=1)).sum(1).mean()
    to_region = -(targets.mT * F.log_softmax(logits, dim=0)).sum(0).mean()
    return (to_noun + to_region) / 2


def infonce_loss(
    region_embeddings: Tensor,
    noun_embeddings: Tensor,
    nouns: Tensor,
    *,
    scale: Tensor,
    related: Tensor,  # noqa: ARG001 - the published form knows no synonyms
    label_smoothing: float = 0.0,
) -> Tensor:
    """The same arguments -> (): the published form, in which equal nouns are negatives."""
    if not len(nouns):
        return region_embeddings.sum() * 0.0
    logits = scale * region_embeddings @ noun_embeddings[nouns].mT  # (N, N)
    own = torch.arange(len(nouns), device=nouns.device)
    to_noun = F.cross_entropy(logits, own, label_smoothing=label_smoothing)
    to_region = F.cross_entropy(logits.mT, own, label_smoothing=label_smoothing)
    return (to_noun + to_region) / 2


LOSS_FUNCTIONS = {
    "vocabulary": vocabulary_loss,
    "multi_positive": multi_positive_loss,
    "infonce": infonce_loss,
}
