"""What stage 1 hands to stage 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Proposals:
    """Class-agnostic masks of one image; there may be none of them.

    Q: proposals, h x w: size of the masks (any resolution of the photo's shape), D: embedding size.

    Raises:
        ValueError: a field's shape or kind does not fit the others.
    """

    mask_probs: Tensor  # (Q, h, w) float in [0, 1], probability that a pixel belongs to the mask
    scores: Tensor  # (Q,) float in [0, 1], objectness: 1 - p(no object)
    embeddings: Tensor | None = None  # (Q, D) in CLIP space; none if stage 1 is mute
    no_object: Tensor | None = None  # (D,), the learned no-object vector that may go with them

    def __post_init__(self) -> None:
        if self.mask_probs.ndim != 3:
            raise ValueError(f"mask_probs must be (Q, h, w), got {tuple(self.mask_probs.shape)}")
        if not self.mask_probs.is_floating_point():
            raise ValueError(f"mask_probs must be floating point, got {self.mask_probs.dtype}")
        if self.scores.shape != self.mask_probs.shape[:1]:
            expected, got = tuple(self.mask_probs.shape[:1]), tuple(self.scores.shape)
            raise ValueError(f"scores must be {expected} to match mask_probs, got {got}")
        if self.embeddings is None and self.no_object is not None:
            raise ValueError("no_object belongs to embeddings: give them, too, or neither")
        if self.embeddings is not None:
            self._check_embeddings(self.embeddings, self.no_object)

    def _check_embeddings(self, embeddings: Tensor, no_object: Tensor | None) -> None:
        if embeddings.ndim != 2 or len(embeddings) != len(self):
            expected, got = f"({len(self)}, D)", tuple(embeddings.shape)
            raise ValueError(f"embeddings must be {expected} to match mask_probs, got {got}")
        if no_object is not None and no_object.shape != embeddings.shape[1:]:
            expected, got = tuple(embeddings.shape[1:]), tuple(no_object.shape)
            raise ValueError(f"no_object must be {expected} to match embeddings, got {got}")

    def __len__(self) -> int:
        return len(self.mask_probs)

    def __getitem__(self, keep: Tensor | slice) -> Proposals:
        """Select by index tensor, boolean mask or slice: ``proposals[proposals.scores > 0.5]``."""
        embeddings = None if self.embeddings is None else self.embeddings[keep]
        return Proposals(self.mask_probs[keep], self.scores[keep], embeddings, self.no_object)

    @classmethod
    def empty(cls, size_hw: tuple[int, int], device: torch.device | str = "cpu") -> Proposals:
        """No proposals, on masks of ``size_hw``."""
        return cls(torch.zeros(0, *size_hw, device=device), torch.zeros(0, device=device))


class Proposer(Protocol):
    """Anything that says where things are in an image.

    Only ``propose`` is needed. A proposer may also have
    ``propose_batch(images, stems) -> list[Proposals]``: several images of any sizes at once, with
    the photos' file stems, with subfolders where these are known (None where there is no file), in
    the order given.
    """

    def propose(self, image: np.ndarray) -> Proposals:
        """(H, W, 3) uint8 RGB -> Proposals."""
        ...


def propose_all(
    proposer: Proposer, images: Sequence[np.ndarray], stems: Sequence[str | None]
) -> list[Proposals]:
    """B images (H, W, 3) uint8 RGB of any sizes -> B Proposals, batched where the proposer can."""
    if hasattr(proposer, "propose_batch"):
        return proposer.propose_batch(images, stems)
    return [proposer.propose(image) for image in images]
