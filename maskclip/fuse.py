"""What each proposal shows, by both stages together."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def name_logits(embeddings: Tensor, text_embeddings: Tensor, owner: Tensor, scale: float) -> Tensor:
    """(N, D) and (K, D) unit length, (K,) each synonym's name -> (N, C) scaled cosines.

    A name's logit is the largest of its synonyms'. Names are 0 to C - 1 and all have synonyms.
    """
    cosines = embeddings @ text_embeddings.mT  # (N, K)
    count = int(owner.max()) + 1 if len(owner) else 0
    if count == len(owner):  # one synonym each, in any order
        logits = torch.empty_like(cosines)
        logits[:, owner] = cosines
        return scale * logits
    lowest = cosines.new_full((len(cosines), count), -torch.inf)
    index = owner.expand_as(cosines)
    return scale * lowest.scatter_reduce(1, index, cosines, "amax")  # (N, C)


def head_starts(untaught: Tensor, owner: Tensor, cosine: float) -> Tensor:
    """(K,) bool, (K,) each synonym's name -> (C,): ``cosine`` for names all of whose synonyms are
    new, 0 for the others.

    Calibrated stacking (Chao et al., arXiv 1605.04253): a classifier that never saw a name favours
    those that it saw.
    """
    count = int(owner.max()) + 1 if len(owner) else 0
    new = torch.ones(count, dtype=torch.long, device=owner.device)
    new.scatter_reduce_(0, owner, untaught.long(), "amin")
    return cosine * new


def proposal_probs(
    embeddings: Tensor,
    no_object: Tensor | None,
    text_embeddings: Tensor,
    owner: Tensor,
    scale: float,
) -> Tensor:
    """(Q, D) and (D,) of any length, (K, D) unit length, (K,) -> (Q, C): stage 1's guess.

    The softmax is over the C names and no-object, whose column is then dropped. Stages that tell
    objects apart from their names (classifier "both") have no such vector: over the C names.
    """
    embeddings = F.normalize(embeddings, dim=-1)
    logits = name_logits(embeddings, text_embeddings, owner, scale)  # (Q, C)
    if no_object is None:
        return logits.softmax(dim=1)
    nothing = scale * embeddings @ F.normalize(no_object, dim=-1)  # (Q,)
    return torch.cat([logits, nothing[:, None]], dim=1).softmax(dim=1)[:, :-1]


def fuse(
    stage1_probs: Tensor, clip_probs: Tensor, keep: Tensor, weight: float, *, compat: bool = False
) -> Tensor:
    """(Q, C), (N, C), keep (Q,) bool -> (Q, C): p_proposal^(1 - w) * p_clip^w (SPEC 2.5).

    A proposal that yields no crop keeps stage 1's guess alone; as published (``compat``) it keeps
    p_proposal^(1 - w), which is larger. With w = 1 (CLIP alone) its row is zero.
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"fusion_weight must be in [0, 1], got {weight}")
    if weight == 1:
        return clip_alone(clip_probs, keep)
    alone = stage1_probs.pow(1 - weight)  # (Q, C)
    fused = alone.clone() if compat else stage1_probs.clone()
    fused[keep] = alone[keep] * clip_probs.to(alone).pow(weight)
    return fused


def clip_alone(clip_probs: Tensor, keep: Tensor) -> Tensor:
    """(N, C), keep (Q,) bool -> (Q, C); rows of proposals that yield no crop are zero."""
    probs = clip_probs.new_zeros(len(keep), clip_probs.shape[1])
    probs[keep] = clip_probs
    return probs
