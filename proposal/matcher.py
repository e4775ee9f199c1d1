"""Which query answers for which target mask."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
UNNAMED = -2  # the label of a mask of which only that it is an object is known


@dataclass(frozen=True)
class Target:
    """What one training image shows. M: masks (may be 0), H x W: the padded image.

    Raises:
        ValueError: the fields do not fit each other.
    """

    masks: Tensor  # (M, H, W) bool or uint8; all of one batch have the same H and W
    # (M,) int64, index into the training names, or UNNAMED; all 0 where nothing but "object" counts
    labels: Tensor
    # (H, W) bool: pixels of nobody knows what (crowds), in which no mask is right or wrong; they
    # are in none of the masks
    ignored: Tensor | None = None

    def __post_init__(self) -> None:
        if self.masks.ndim != 3 or self.labels.shape != self.masks.shape[:1]:
            raise ValueError(
                "masks must be (M, H, W) and labels (M,), "
                f"got {tuple(self.masks.shape)} and {tuple(self.labels.shape)}"
            )

    def as_objects(self) -> Target:
        """The same masks, each labelled 0, "object", whatever it is called."""
        return Target(self.masks, torch.zeros_like(self.labels), self.ignored)

    def to(self, device: torch.device) -> Target:
        """The same on another device."""
        ignored = None if self.ignored is None else self.ignored.to(device)
        return Target(self.masks.to(device), self.labels.to(device), ignored)


@dataclass(frozen=True)
class MatchWeights:
    """What each kind of disagreement costs; in the loss as in the matching."""

    class_weight: float = 1.0
    focal_weight: float = 20.0
    dice_weight: float = 1.0


@torch.no_grad()
def match(
    class_probs: Tensor,
    mask_logits: Tensor,
    labels: Tensor,
    masks: Tensor,
    weights: MatchWeights,
    *,
    counted: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Pair queries with targets at the least total cost (Hungarian method).

    (Q, C) class_probs, (Q, h, w) mask_logits, (M,) labels, (M, h, w) masks, (h, w) bool counted
    (the pixels that matter; all by default) -> the indices of min(Q, M) queries and of their
    targets.
    """
    if len(masks) and masks.shape[1:] != mask_logits.shape[1:]:
        raise ValueError(
            f"masks must be compared on one grid, got {tuple(mask_logits.shape)} and "
            f"{tuple(masks.shape)}"
        )
    logits, targets = mask_logits.flatten(1).float(), masks.flatten(1).float()  # (Q, P), (M, P)
    if counted is not None:
        logits, targets = logits[:, counted.flatten()], targets[:, counted.flatten()]
    cost = (
        weights.focal_weight * focal_costs(logits, targets)
        + weights.dice_weight * dice_costs(logits, targets)
        - weights.class_weight * class_probs[:, labels].float()
    )  # (Q, M)
    # A network that diverged must not stop here with a riddle: what is not a number costs most.
    cost = torch.nan_to_num(cost, nan=1e6, posinf=1e6, neginf=-1e6)
    queries, chosen = linear_sum_assignment(cost.cpu().numpy())
    device = mask_logits.device
    return torch.as_tensor(queries, device=device), torch.as_tensor(chosen, device=device)


def focal_costs(logits: Tensor, targets: Tensor) -> Tensor:
    """(Q, P) logits, (M, P) targets in {0, 1} -> (Q, M) mean focal losses of all pairs."""
    probs = logits.sigmoid()
    negative_log = F.softplus(-logits)  # -log p; and -log (1 - p) is that plus the logit
    on = FOCAL_ALPHA * (1 - probs) ** FOCAL_GAMMA * negative_log
    off = (1 - FOCAL_ALPHA) * probs**FOCAL_GAMMA * (negative_log + logits)
    # on @ t + off @ (1 - t), with one product less
    return ((on - off) @ targets.mT + off.sum(1, keepdim=True)) / logits.shape[1]


def dice_costs(logits: Tensor, targets: Tensor) -> Tensor:
    """(Q, P) logits, (M, P) targets in {0, 1} -> (Q, M) dice losses of all pairs."""
    probs = logits.sigmoid()
    overlap = 2 * probs @ targets.mT
    total = probs.sum(1, keepdim=True) + targets.sum(1)
    return 1 - (overlap + 1) / (total + 1)
