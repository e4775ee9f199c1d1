"""MaskFormer's loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from proposal.maskformer import MaskFormerOutput, class_logits
from proposal.matcher import FOCAL_ALPHA, FOCAL_GAMMA, MatchWeights, Target, match


@dataclass(frozen=True)
class CriterionConfig:
    """Weights of the loss's terms; the defaults are the published ones."""

    weights: MatchWeights = field(default_factory=MatchWeights)
    no_object_weight: float = 0.1  # of a query without a target in the cross-entropy
    mask_loss_stride: int = 1  # 1 = masks compared at full resolution; 4 = on the logits' own grid


class Criterion(nn.Module):
    """Set loss of one batch: every target gets a query, and every query an answer.

    B: images, Q: queries, M: masks of an image, K: masks of the batch, H x W: padded images.
    """

    def __init__(self, config: CriterionConfig) -> None:
        super().__init__()
        if config.mask_loss_stride < 1:
            raise ValueError(f"mask_loss_stride must be 1 or more, got {config.mask_loss_stride}")
        self.config = config

    def forward(
        self,
        output: MaskFormerOutput,
        targets: Sequence[Target],
        text_embeddings: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Output of B images, B targets -> weighted terms; text needs (C, D) too."""
        if len(targets) != len(output.mask_logits):
            raise ValueError(
                f"{len(output.mask_logits)} images need as many targets, got {len(targets)}"
            )
        grid = output.mask_logits.shape[-2:]
        coarse = [resize_masks(target.masks, grid) for target in targets]  # (M, h, w) each
        fine = self.fine_masks(targets)  # (M, H, W) each
        masks_per_worker = count_masks(targets, output.mask_logits.device)
        losses = {}
        for layer, answer in enumerate([*output.auxiliary, output]):
            logits = classify(answer, text_embeddings)  # (B, Q, C + 1)
            pairs = self.match_all(answer, logits, targets, coarse)
            suffix = "" if answer is output else f"_{layer}"
            terms = self.mask_terms(answer, pairs, fine, masks_per_worker)
            terms["loss_class"] = self.class_term(logits, pairs, targets)
            losses |= {name + suffix: term for name, term in terms.items()}
        return losses

    def fine_masks(self, targets: Sequence[Target]) -> list[Tensor]:
        """The targets' masks at the resolution of the mask losses."""
        stride = self.config.mask_loss_stride
        return [
            resize_masks(t.masks, tuple(-(-side // stride) for side in t.masks.shape[-2:]))
            for t in targets
        ]

    def match_all(
        self,
        answer: MaskFormerOutput,
        logits: Tensor,
        targets: Sequence[Target],
        coarse: Sequence[Tensor],
    ) -> list[tuple[Tensor, Tensor]]:
        """Each image's pairs of query and target."""
        probs = logits.detach().softmax(-1)
        rows = zip(probs, answer.mask_logits.detach(), targets, coarse, strict=True)
        return [
            match(probs, masks, target.labels, wanted, self.config.weights)
            for probs, masks, target, wanted in rows
        ]

    def mask_terms(
        self,
        answer: MaskFormerOutput,
        pairs: list[tuple[Tensor, Tensor]],
        fine: list[Tensor],
        masks_per_worker: Tensor,
    ) -> dict[str, Tensor]:
        """Focal and dice losses of the K matched masks only."""
        rows = zip(answer.mask_logits, pairs, strict=True)
        logits = torch.cat([masks[queries] for masks, (queries, _) in rows])  # (K, h, w)
        wanted = torch.cat([masks[t] for masks, (_, t) in zip(fine, pairs, strict=True)])
        if wanted.shape[-2:] != logits.shape[-2:]:
            logits = F.interpolate(
                logits[:, None], wanted.shape[-2:], mode="bilinear", align_corners=False
            )[:, 0]  # (K, H, W)
        logits, wanted = logits.flatten(1), wanted.flatten(1).to(logits.dtype)  # (K, P)
        weights = self.config.weights
        focal = focal_losses(logits, wanted).sum() / masks_per_worker
        dice = dice_losses(logits, wanted).sum() / masks_per_worker
        return {"loss_focal": weights.focal_weight * focal, "loss_dice": weights.dice_weight * dice}

    def class_term(
        self, logits: Tensor, pairs: list[tuple[Tensor, Tensor]], targets: Sequence[Target]
    ) -> Tensor:
        """Cross-entropy over all queries; those without a target should say no-object."""
        no_object = logits.shape[-1] - 1
        wanted = torch.full(logits.shape[:2], no_object, device=logits.device)  # (B, Q)
        for row, (queries, chosen), target in zip(wanted, pairs, targets, strict=True):
            row[queries] = target.labels[chosen]
        weights = torch.ones(no_object + 1, device=logits.device)
        weights[-1] = self.config.no_object_weight
        loss = F.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten(), weights)
        return self.config.weights.class_weight * loss


def classify(answer: MaskFormerOutput, text_embeddings: Tensor | None) -> Tensor:
    """The (B, Q, C + 1) logits of an answer; C = 1 (object) without texts."""
    if answer.object_logits is not None:
        return answer.object_logits
    if text_embeddings is None:
        raise ValueError(
            "the text classifier's loss needs the training names' text_embeddings (C, D), got none"
        )
    return class_logits(answer.class_embeddings, text_embeddings, answer.no_object)


def resize_masks(masks: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(M, H, W) bool or uint8 -> (M, *size_hw) uint8 by the nearest pixel, for any M."""
    if masks.shape[-2:] == size_hw:
        return masks.to(torch.uint8)
    rows, columns = (
        torch.arange(new, device=masks.device) * old // new
        for new, old in zip(size_hw, masks.shape[-2:], strict=True)
    )
    return masks[:, rows[:, None], columns].to(torch.uint8)


def count_masks(targets: Sequence[Target], device: torch.device) -> Tensor:
    """Mean number of masks per worker, at least 1; every worker must call it."""
    count = torch.tensor(float(sum(len(target.labels) for target in targets)), device=device)
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(count)
        count = count / distributed.get_world_size()
    return count.clamp(min=1)


def focal_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """(K, P) logits, (K, P) targets in {0, 1} -> (K,) mean focal losses."""
    probs = logits.sigmoid()
    missed = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    wrong = probs + targets - 2 * probs * targets  # 1 - probability of what is true
    balance = (1 - FOCAL_ALPHA) + (2 * FOCAL_ALPHA - 1) * targets
    return (balance * wrong**FOCAL_GAMMA * missed).mean(1)


def dice_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """(K, P) logits, (K, P) targets in {0, 1} -> (K,) dice losses, smoothed by 1."""
    probs = logits.sigmoid()
    overlap = 2 * (probs * targets).sum(1)
    return 1 - (overlap + 1) / (probs.sum(1) + targets.sum(1) + 1)
