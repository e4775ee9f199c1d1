"""Contrastive losses that teach regions their nouns.

N: regions, K: nouns, D: embedding size. ``scale`` is what cosines are multiplied with.
"""

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
    """(N, D), (K, D) of all K nouns, (N,) int64 which is whose, (N, K) bool -> ().

    Cross-entropy over all nouns but those related to the region's own.
    """
    logits = scale * region_embeddings @ noun_embeddings.mT  # (N, K)
    others = related.scatter(1, nouns[:, None], False)  # (N, K)
    log_probs = F.log_softmax(logits.masked_fill(others, MASKED), dim=1)  # (N, K)
    own = log_probs.gather(1, nouns[:, None]).mean()
    if not label_smoothing:
        return -own
    allowed = (~others).float()  # (N, K)
    spread = ((log_probs * allowed).sum(1) / allowed.sum(1)).mean()
    return -(1 - label_smoothing) * own - label_smoothing * spread


def multi_positive_loss(
    region_embeddings: Tensor,
    text_embeddings: Tensor,
    nouns: Tensor,
    *,
    scale: Tensor,
    related: Tensor,
    label_smoothing: float = 0.0,
    symmetric: bool = True,
) -> Tensor:
    """(N, D), (N, D) of each region's noun, (N,) int64 nouns, (N, N) bool -> ().

    Equal nouns of the batch are positives together; related ones neither positives nor negatives.
    Without ``symmetric`` regions look for their nouns only, not nouns for their regions.
    """
    if not len(nouns):
        return region_embeddings.sum() * 0.0
    logits = scale * region_embeddings @ text_embeddings.mT  # (N, N)
    same = nouns[:, None] == nouns[None, :]  # (N, N)
    others = related & ~same
    logits = logits.masked_fill(others, MASKED)
    allowed = (~others).float()
    targets = same / same.sum(1, keepdim=True)  # symmetric where rows and columns are alike
    smooth = allowed / allowed.sum(1, keepdim=True)
    targets = (1 - label_smoothing) * targets + label_smoothing * smooth
    to_noun = -(targets * F.log_softmax(logits, dim=1)).sum(1).mean()
    if not symmetric:
        return to_noun
    to_region = -(targets.mT * F.log_softmax(logits, dim=0)).sum(0).mean()
    return (to_noun + to_region) / 2


def infonce_loss(
    region_embeddings: Tensor,
    text_embeddings: Tensor,
    nouns: Tensor,
    *,
    scale: Tensor,
    related: Tensor,  # noqa: ARG001 - the published form knows no synonyms
    label_smoothing: float = 0.0,
    symmetric: bool = True,
) -> Tensor:
    """The same arguments -> (): the published form, in which equal nouns are negatives."""
    if not len(nouns):
        return region_embeddings.sum() * 0.0
    logits = scale * region_embeddings @ text_embeddings.mT  # (N, N)
    own = torch.arange(len(nouns), device=nouns.device)
    to_noun = F.cross_entropy(logits, own, label_smoothing=label_smoothing)
    if not symmetric:
        return to_noun
    to_region = F.cross_entropy(logits.mT, own, label_smoothing=label_smoothing)
    return (to_noun + to_region) / 2


BATCH_LOSSES = {"multi_positive": multi_positive_loss, "infonce": infonce_loss}
