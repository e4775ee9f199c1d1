"""Universal segmentation networks as proposers: their masks and objectness, not their classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from proposal.duplicates import distinct_masks
from proposal.hub_frames import Frame, check_photo, cut_frames, lay_over, mask_size
from proposal.hub_models import HubModel, check_input_size
from proposal.proposals import Proposals

TASKS = ("panoptic", "instance", "semantic")


@dataclass(frozen=True)
class UniversalConfig:
    """Settings of MaskFormer, Mask2Former, OneFormer or EoMT as a proposer.

    Raises:
        ValueError: a value outside its range.
    """

    task: str = "panoptic"  # what OneFormer is asked for; the others have one task
    duplicate_iou: float = 0.9  # of two masks that overlap so, the lower score goes; above 1: none
    mask_side: int = 512  # pixels of the masks' longer side; smaller photos keep their size

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"task must be one of {', '.join(TASKS)}, got {self.task!r}")
        if self.duplicate_iou <= 0:
            raise ValueError(f"duplicate_iou must be above 0, got {self.duplicate_iou}")
        if self.mask_side < 1:
            raise ValueError(f"mask_side must be at least 1, got {self.mask_side}")


class UniversalProposer(nn.Module):
    """Every query is a proposal, best scores first; its score is 1 - p(no object).

    B: images, Q: queries (of all frames of an image), C: the network's own classes, h x w: its
    masks.
    """

    def __init__(
        self,
        network: nn.Module,
        processor: Any,
        config: UniversalConfig | None = None,
        *,
        task_tokens: Tensor | None = None,
        reference: str = "",
    ) -> None:
        """A network of transformers with its image processor.

        ``task_tokens`` (1, length) tell OneFormer what to look for; ``reference`` is how a
        checkpoint names the network.
        """
        super().__init__()
        self.network = network
        self.processor = processor
        self.config = config or UniversalConfig()
        self.register_buffer("task_tokens", task_tokens, persistent=False)
        self.reference = reference

    @classmethod
    def load(cls, model: HubModel, config: UniversalConfig) -> UniversalProposer:
        """A model that is found -> its proposer, on the CPU.

        Raises:
            ValueError, FileNotFoundError, OSError: as HubModel's methods.
        """
        processor = model.load_processor()
        tokenizer = model.load_tokenizer() if model.model_type == "oneformer" else None
        network = model.load_network()
        if model.model_type in ("eomt", "eomt_dinov3"):  # the others take any size
            check_input_size(model.reference, processor, network.config.image_size)
        tokens = None
        if tokenizer is not None:
            tokens = task_tokens(tokenizer, config.task, network.config.task_seq_len)
        return cls(network, processor, config, task_tokens=tokens, reference=model.reference)

    def propose(self, image: np.ndarray) -> Proposals:
        """(H, W, 3) uint8 RGB -> Proposals of at most ``mask_side`` pixels."""
        return self.propose_batch([image])[0]

    @torch.no_grad()
    def propose_batch(
        self, images: Sequence[np.ndarray], stems: Sequence[str | None] = ()
    ) -> list[Proposals]:
        """B images (H, W, 3) uint8 RGB of any sizes -> B Proposals, in their order.

        Only frames of one size share a forward: these networks look at their padding. Stems tell
        nothing.
        """
        del stems
        frames: list[tuple[int, Frame]] = []
        for index, image in enumerate(images):
            check_photo(image)
            frames += [(index, frame) for frame in cut_frames(image, self.processor)]
        groups = defaultdict(list)
        for place, (_, frame) in enumerate(frames):
            groups[frame.pixels.shape].append(place)
        answers: dict[int, tuple[Tensor, Tensor]] = {}  # place -> mask_probs, scores
        for places in groups.values():
            class_logits, mask_logits = self._ask([frames[place][1].pixels for place in places])
            for row, place in enumerate(places):
                index, frame = frames[place]
                size_hw = mask_size(images[index].shape[:2], self.config.mask_side)
                scores = 1 - class_logits[row].float().softmax(dim=-1)[:, -1]  # (Q,)
                answers[place] = lay_over(mask_logits[row], frame, size_hw), scores
        return [
            self._join(
                [answers[place] for place, (owner, _) in enumerate(frames) if owner == index]
            )
            for index in range(len(images))
        ]

    def _ask(self, pixels: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Inputs (3, H, W) -> class_logits (B, Q, C + 1), mask_logits (B, Q, h, w)."""
        inputs = {"pixel_values": torch.stack(pixels).to(self.network.device)}
        if self.task_tokens is not None:
            inputs["task_inputs"] = self.task_tokens.expand(len(pixels), -1)
        output = self.network(**inputs)
        return output.class_queries_logits, output.masks_queries_logits

    def _join(self, answers: list[tuple[Tensor, Tensor]]) -> Proposals:
        """The frames of one image -> its Proposals."""
        mask_probs, scores = (torch.cat(parts) for parts in zip(*answers, strict=True))
        keep = distinct_masks(mask_probs > 0.5, scores, self.config.duplicate_iou)
        return Proposals(mask_probs[keep], scores[keep])


def task_tokens(tokenizer: Any, task: str, length: int) -> Tensor:
    """``panoptic`` -> (1, length) int64, OneFormer's task input; 0 after the text's end."""
    coded = tokenizer(
        [f"the task is {task}"], padding="max_length", max_length=length, truncation=True
    )
    return torch.tensor(coded["input_ids"]) * torch.tensor(coded["attention_mask"])
