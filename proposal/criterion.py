"""MaskFormer's loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from proposal.maskformer import MaskFormerOutput, class_logits
from proposal.matcher import FOCAL_ALPHA, FOCAL_GAMMA, MatchWeights, Target, match
from proposal.point_sampling import interpolate_at, pick_at, unsure_points


@dataclass(frozen=True)
class CriterionConfig:
    """Weights of the loss's terms; the defaults are the published ones."""

    weights: MatchWeights = field(default_factory=MatchWeights)
    no_object_weight: float = 0.1  # of a query without a target in the cross-entropy
    mask_loss_stride: int = 1  # 1 = masks compared at full resolution; 4 = on the logits' own grid
    # Masks compared at so many points each, most of them where the answer is unsure, instead of at
    # every pixel (PointRend; Mask2Former takes 12544); saves memory and time. 0 = at every pixel
    points: int = 0

    def __post_init__(self) -> None:
        if self.mask_loss_stride < 1:
            raise ValueError(f"mask_loss_stride must be 1 or more, got {self.mask_loss_stride}")
        if self.points < 0:
            raise ValueError(f"points must be 0 or more, got {self.points}")


@dataclass(frozen=True)
class Counts:
    """By what a batch's losses are divided: means over all batches of the step, on all workers."""

    masks: float  # target masks; taken as at least 1
    class_weight: float  # of all queries' answers in the cross-entropy
    names: float  # matched masks that have a name


class Criterion(nn.Module):
    """Set loss of one batch: every target gets a query, and every query an answer.

    B: images, Q: queries, M: masks of an image, K: masks of the batch, H x W: padded images.
    """

    def __init__(self, config: CriterionConfig) -> None:
        super().__init__()
        self.config = config

    def forward(
        self,
        output: MaskFormerOutput,
        targets: Sequence[Target],
        text_embeddings: Tensor | None = None,
        counts: Counts | None = None,
    ) -> dict[str, Tensor]:
        """Output of B images, B targets -> weighted terms; text and both need (C, D) too.

        ``counts``: of the whole step, where this batch is but a part of it.
        """
        if len(targets) != len(output.mask_logits):
            raise ValueError(
                f"{len(output.mask_logits)} images need as many targets, got {len(targets)}"
            )
        counts = counts or self.count(targets, output.mask_logits.shape[1])
        named = targets
        if output.object_logits is not None:
            targets = [target.as_objects() for target in targets]
        grid = output.mask_logits.shape[-2:]
        coarse = [resize_target(target, grid) for target in targets]  # (M, h, w) each
        fine = self.fine_targets(targets)  # (M, H, W) each
        losses = {}
        for layer, answer in enumerate([*output.auxiliary, output]):
            logits = classify(answer, text_embeddings)  # (B, Q, C + 1)
            pairs = self.match_all(answer, logits, coarse if not self.config.points else fine)
            suffix = "" if answer is output else f"_{layer}"
            terms = self.mask_terms(answer, pairs, fine, counts)
            terms["loss_class"] = self.class_term(logits, pairs, targets, counts)
            if answer.object_logits is not None and answer.class_embeddings is not None:
                terms["loss_name"] = self.name_term(answer, pairs, named, text_embeddings, counts)
            losses |= {name + suffix: term for name, term in terms.items()}
        return losses

    def count(self, targets: Sequence[Target], queries: int) -> Counts:
        """What the targets of one batch amount to, if each image has so many queries."""
        masks = [len(target.labels) for target in targets]
        found = sum(min(queries, each) for each in masks)
        empty = queries * len(masks) - found
        # Where there are more masks than queries, as many of the matched as of all have names
        names = sum(
            int((target.labels >= 0).sum()) * min(1.0, queries / max(1, len(target.labels)))
            for target in targets
        )
        return Counts(sum(masks), found + self.config.no_object_weight * empty, names)

    def fine_targets(self, targets: Sequence[Target]) -> list[Target]:
        """The targets at the resolution of the mask losses."""
        stride = self.config.mask_loss_stride
        return [
            resize_target(t, tuple(-(-side // stride) for side in t.masks.shape[-2:]))
            for t in targets
        ]

    def match_all(
        self, answer: MaskFormerOutput, logits: Tensor, targets: Sequence[Target]
    ) -> list[tuple[Tensor, Tensor]]:
        """Each image's pairs of query and target, compared on the targets' grid or at points."""
        probs = logits.detach().softmax(-1)
        pairs = []
        for each, masks, target in zip(probs, answer.mask_logits.detach(), targets, strict=True):
            wanted, ignored = target.masks, target.ignored
            if self.config.points:
                points = torch.rand(1, self.config.points, 2, device=masks.device)
                masks = interpolate_at(masks[None], points)[0]  # (Q, P)
                wanted = pick_at(wanted[None], points)[0]  # (M, P)
                ignored = None if ignored is None else pick_at(ignored[None, None], points)[0, 0]
            counted = None if ignored is None else ~ignored.bool()
            weights = self.config.weights
            pairs.append(match(each, masks, target.labels, wanted, weights, counted=counted))
        return pairs

    def mask_terms(
        self,
        answer: MaskFormerOutput,
        pairs: list[tuple[Tensor, Tensor]],
        fine: list[Target],
        counts: Counts,
    ) -> dict[str, Tensor]:
        """Focal and dice losses of the K matched masks only, over the pixels that count."""
        rows = zip(answer.mask_logits, pairs, strict=True)
        logits = torch.cat([masks[queries] for masks, (queries, _) in rows])  # (K, h, w)
        rows = list(zip(fine, pairs, strict=True))
        wanted = torch.cat([target.masks[t] for target, (_, t) in rows])  # (K, H, W)
        counted = None
        if any(target.ignored is not None for target in fine):
            counted = torch.cat([counted_pixels(t).expand(len(p), -1, -1) for t, (p, _) in rows])
        if self.config.points and len(logits):
            points = unsure_points(logits, self.config.points)  # (K, P, 2)
            logits = interpolate_at(logits[:, None], points)[:, 0]  # (K, P)
            wanted = pick_at(wanted[:, None], points)[:, 0]
            counted = None if counted is None else pick_at(counted[:, None], points)[:, 0]
        elif wanted.shape[-2:] != logits.shape[-2:]:
            logits = F.interpolate(
                logits[:, None], wanted.shape[-2:], mode="bilinear", align_corners=False
            )[:, 0]  # (K, H, W)
        logits, wanted = logits.flatten(1), wanted.flatten(1).to(logits.dtype)  # (K, P)
        counted = None if counted is None else counted.flatten(1).to(logits.dtype)
        weights, masks = self.config.weights, max(1.0, counts.masks)
        focal = focal_losses(logits, wanted, counted).sum() / masks
        dice = dice_losses(logits, wanted, counted).sum() / masks
        return {"loss_focal": weights.focal_weight * focal, "loss_dice": weights.dice_weight * dice}

    def class_term(
        self,
        logits: Tensor,
        pairs: list[tuple[Tensor, Tensor]],
        targets: Sequence[Target],
        counts: Counts,
    ) -> Tensor:
        """Cross-entropy over all queries; those without a target should say no-object."""
        no_object = logits.shape[-1] - 1
        wanted = torch.full(logits.shape[:2], no_object, device=logits.device)  # (B, Q)
        for row, (queries, chosen), target in zip(wanted, pairs, targets, strict=True):
            row[queries] = target.labels[chosen]
        weights = torch.ones(no_object + 1, device=logits.device)
        weights[-1] = self.config.no_object_weight
        loss = F.cross_entropy(
            logits.flatten(0, 1).float(), wanted.flatten(), weights, reduction="sum"
        )
        return self.config.weights.class_weight * loss / max(counts.class_weight, 1e-6)

    def name_term(
        self,
        answer: MaskFormerOutput,
        pairs: list[tuple[Tensor, Tensor]],
        targets: Sequence[Target],
        text_embeddings: Tensor | None,
        counts: Counts,
    ) -> Tensor:
        """Cross-entropy over the C names of those matched queries whose target has a name."""
        check_texts(text_embeddings)
        embeddings, labels = [], []
        for row, (queries, chosen), target in zip(
            answer.class_embeddings, pairs, targets, strict=True
        ):
            wanted = target.labels[chosen]
            embeddings.append(row[queries[wanted >= 0]])
            labels.append(wanted[wanted >= 0])
        logits = class_logits(torch.cat(embeddings), text_embeddings, None)  # (K, C)
        loss = F.cross_entropy(logits.float(), torch.cat(labels), reduction="sum")
        return self.config.weights.class_weight * loss / max(counts.names, 1e-6)


def classify(answer: MaskFormerOutput, text_embeddings: Tensor | None) -> Tensor:
    """The (B, Q, C + 1) logits of an answer; C = 1 (object) without texts."""
    if answer.object_logits is not None:
        return answer.object_logits
    check_texts(text_embeddings)
    return class_logits(answer.class_embeddings, text_embeddings, answer.no_object)


def check_texts(text_embeddings: Tensor | None) -> None:
    """Raise a ValueError where there are no texts to compare queries with."""
    if text_embeddings is None:
        raise ValueError(
            "the text classifier's loss needs the training names' text_embeddings (C, D), got none"
        )


def resize_masks(masks: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(M, H, W) bool or uint8 -> (M, *size_hw) uint8 by the nearest pixel, for any M."""
    if masks.shape[-2:] == size_hw:
        return masks.to(torch.uint8)
    rows, columns = (
        torch.arange(new, device=masks.device) * old // new
        for new, old in zip(size_hw, masks.shape[-2:], strict=True)
    )
    return masks[:, rows[:, None], columns].to(torch.uint8)


def resize_target(target: Target, size_hw: tuple[int, int]) -> Target:
    """The same target on another grid, by the nearest pixel."""
    ignored = target.ignored
    if ignored is not None:
        ignored = resize_masks(ignored[None], size_hw)[0].bool()
    return Target(resize_masks(target.masks, size_hw), target.labels, ignored)


def counted_pixels(target: Target) -> Tensor:
    """(H, W) bool: the pixels in which masks are compared."""
    if target.ignored is None:
        return torch.ones(target.masks.shape[-2:], dtype=torch.bool, device=target.masks.device)
    return ~target.ignored


def focal_losses(logits: Tensor, targets: Tensor, counted: Tensor | None = None) -> Tensor:
    """(K, P) logits, (K, P) targets in {0, 1} -> (K,) focal losses, means over counted pixels."""
    probs = logits.sigmoid()
    missed = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    wrong = probs + targets - 2 * probs * targets  # 1 - probability of what is true
    balance = (1 - FOCAL_ALPHA) + (2 * FOCAL_ALPHA - 1) * targets
    losses = balance * wrong**FOCAL_GAMMA * missed
    if counted is None:
        return losses.mean(1)
    return (losses * counted).sum(1) / counted.sum(1).clamp(min=1)


def dice_losses(logits: Tensor, targets: Tensor, counted: Tensor | None = None) -> Tensor:
    """(K, P) logits, (K, P) targets in {0, 1} -> (K,) dice losses, smoothed by 1."""
    probs = logits.sigmoid()
    if counted is not None:
        probs, targets = probs * counted, targets * counted
    overlap = 2 * (probs * targets).sum(1)
    return 1 - (overlap + 1) / (probs.sum(1) + targets.sum(1) + 1)
