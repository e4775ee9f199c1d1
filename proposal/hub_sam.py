"""SAM and its successors as proposers: what a grid of points segments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from proposal.duplicates import distinct_masks
from proposal.hub_frames import check_photo, mask_size, widen
from proposal.hub_models import HubModel, check_input_size
from proposal.proposals import Proposals

_PIXELS_AT_ONCE = 1 << 25  # of masks enlarged at a time, 128 MiB
# SAM 2 was published with a lower bar: it thinks less of its masks than SAM of its own
MIN_QUALITY = {"sam": 0.88, "sam_hq": 0.88}
LATER_MIN_QUALITY = 0.8


@dataclass(frozen=True)
class SamConfig:
    """Settings of a SAM-family model as a proposer; the defaults are the published ones.

    Raises:
        ValueError: a value outside its range.
    """

    points_per_side: int = 32  # of a grid over the photo: time grows with its square
    points_per_batch: int = 64  # points that are decoded at once: bounds memory
    min_quality: float = 0.88  # of a mask, its IoU as the model guesses it; 0.8 from SAM 2 on
    min_stability: float = 0.95  # IoU of the mask at stricter and at laxer thresholds
    stability_offset: float = 1.0  # how much stricter and laxer, in logits
    duplicate_iou: float = 0.7  # of two masks that overlap so, the lower score goes; above 1: none
    mask_side: int = 512  # pixels of the masks' longer side; smaller photos keep their size

    def __post_init__(self) -> None:
        for name in ("points_per_side", "points_per_batch", "mask_side"):
            if vars(self)[name] < 1:
                raise ValueError(f"{name} must be at least 1, got {vars(self)[name]}")
        if self.duplicate_iou <= 0:
            raise ValueError(f"duplicate_iou must be above 0, got {self.duplicate_iou}")
        if self.stability_offset < 0:
            raise ValueError(f"stability_offset must be 0 or more, got {self.stability_offset}")

    @classmethod
    def defaults(cls, model_type: str) -> dict[str, float]:
        """What a kind of model has other than the class."""
        return {"min_quality": MIN_QUALITY.get(model_type, LATER_MIN_QUALITY)}


@dataclass(frozen=True)
class _View:
    """One photo as the network sees it."""

    embeddings: Any  # of the encoder, for this photo alone, in the network's own form
    input_hw: tuple[int, int]  # of what the encoder saw
    content_hw: tuple[int, int]  # pixels of it that show the photo, without padding
    size_hw: tuple[int, int]  # of the masks to be proposed


class SamProposer(nn.Module):
    """Masks of a grid of points that are good, stable and not the same; best scores first.

    A score is the IoU that the model expects of its mask. B: images, P: points, A: answers to a
    point (3), K: masks, h x w: the network's masks.
    """

    def __init__(
        self,
        network: nn.Module,
        processor: Any,
        config: SamConfig | None = None,
        *,
        reference: str = "",
    ) -> None:
        """A network of transformers with its image processor.

        ``reference`` is how a checkpoint names the network.
        """
        super().__init__()
        self.network = network
        self.processor = processor
        self.config = config or SamConfig()
        self.reference = reference

    @classmethod
    def load(cls, model: HubModel, config: SamConfig) -> SamProposer:
        """A model that is found -> its proposer, on the CPU.

        Raises:
            ValueError, FileNotFoundError, OSError: as HubModel's methods.
        """
        processor = model.load_processor()
        network = model.load_network()
        side = network.config.prompt_encoder_config.image_size
        check_input_size(model.reference, processor, side)
        return cls(network, processor, config, reference=model.reference)

    def propose(self, image: np.ndarray) -> Proposals:
        """(H, W, 3) uint8 RGB -> Proposals of at most ``mask_side`` pixels."""
        return self.propose_batch([image])[0]

    @torch.no_grad()
    def propose_batch(
        self, images: Sequence[np.ndarray], stems: Sequence[str | None] = ()
    ) -> list[Proposals]:
        """B images (H, W, 3) uint8 RGB of any sizes -> B Proposals, in their order.

        The images share the encoder's forward; points are decoded image by image. Stems tell
        nothing.
        """
        del stems
        if not len(images):
            return []
        for image in images:
            check_photo(image)
        inputs = self.processor(
            images=[widen(image) for image in images],
            return_tensors="pt",
            input_data_format="channels_last",
        )
        pixels = inputs["pixel_values"].to(self.network.device)  # (B, 3, S, S)
        embeddings = self.network.get_image_embeddings(pixels)
        shown = inputs.get("reshaped_input_sizes")  # SAM pads; its successors stretch photos
        proposals = []
        for row, image in enumerate(images):
            input_hw = tuple(pixels.shape[-2:])
            content_hw = input_hw if shown is None else tuple(shown[row].tolist())
            size_hw = mask_size(image.shape[:2], self.config.mask_side)
            proposals.append(
                self._propose(_View(_row(embeddings, row), input_hw, content_hw, size_hw))
            )
        return proposals

    def _propose(self, view: _View) -> Proposals:
        found = [part for part in self._candidates(view) if len(part[0])]
        if not found:
            return Proposals.empty(view.size_hw, self.network.device)
        logits, masks, scores = (torch.cat(parts) for parts in zip(*found, strict=True))
        keep = distinct_masks(masks, scores, self.config.duplicate_iou)
        mask_probs = torch.cat([part.sigmoid() for part in self._enlarge(logits[keep], view)])
        return Proposals(mask_probs, scores[keep].clamp(0, 1))

    def _candidates(self, view: _View) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """-> mask_logits (K, h, w), masks (K, H, W) bool, scores (K,), some points at a time."""
        config = self.config
        grid = point_grid(config.points_per_side, view.content_hw)
        for points in grid.split(config.points_per_batch):
            logits, scores = self._decode(view.embeddings, points)
            good = scores > config.min_quality
            logits, scores = logits[good], scores[good]
            masks = [torch.zeros(0, *view.size_hw, dtype=torch.bool, device=logits.device)]
            steady = [torch.zeros(0, device=logits.device)]
            for part in self._enlarge(logits, view):
                masks.append(part > 0)
                steady.append(stability(part, config.stability_offset))
            stable = torch.cat(steady) > config.min_stability
            yield logits[stable], torch.cat(masks)[stable], scores[stable]

    def _decode(self, embeddings: Any, points: Tensor) -> tuple[Tensor, Tensor]:
        """(P, 2) x, y -> mask_logits (P * A, h, w), the model's own scores (P * A,)."""
        points = points.to(self.network.device)[None, :, None]  # (1, P, 1, 2)
        inputs = {"image_embeddings": embeddings}
        if isinstance(embeddings, tuple):  # SAM-HQ looks at the encoder's earlier layers, too
            inputs = dict(
                zip(("image_embeddings", "intermediate_embeddings"), embeddings, strict=True)
            )
        output = self.network(
            input_points=points,
            input_labels=torch.ones_like(points[..., 0], dtype=torch.int64),
            multimask_output=True,
            **inputs,
        )
        return output.pred_masks[0].flatten(0, 1).float(), output.iou_scores[0].flatten().float()

    def _enlarge(self, logits: Tensor, view: _View) -> Iterator[Tensor]:
        """(K, h, w) -> (k, H, W) logits of some masks at a time, without padding."""
        pixels = max(view.input_hw[0] * view.input_hw[1], view.size_hw[0] * view.size_hw[1])
        for part in logits.split(max(1, _PIXELS_AT_ONCE // pixels)) if len(logits) else ():
            yield self.processor.post_process_masks(
                [part[:, None]],
                [view.size_hw],
                reshaped_input_sizes=[view.content_hw],
                binarize=False,
            )[0][:, 0]


def point_grid(per_side: int, size_hw: tuple[int, int]) -> Tensor:
    """-> (per_side ** 2, 2) x, y in pixels, the centres of equal cells, row by row."""
    steps = (torch.arange(per_side) + 0.5) / per_side
    y, x = torch.meshgrid(steps * size_hw[0], steps * size_hw[1], indexing="ij")
    return torch.stack([x, y], dim=-1).flatten(0, 1)


def stability(mask_logits: Tensor, offset: float) -> Tensor:
    """(K, H, W) -> (K,): IoU of the masks above ``offset`` and above ``-offset``; 0 if empty."""
    strict = (mask_logits > offset).flatten(1).sum(1)  # inside the lax one
    lax = (mask_logits > -offset).flatten(1).sum(1)
    return strict / lax.clamp(min=1)


def _row(embeddings: Any, row: int) -> Any:
    """Embeddings of B images, in lists and tuples of tensors (B, ...) -> those of one, B = 1."""
    if isinstance(embeddings, Tensor):
        return embeddings[row : row + 1]
    return type(embeddings)(_row(each, row) for each in embeddings)
