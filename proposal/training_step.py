"""A proposal network with its loss, as the training loop wants it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from statistics import mean

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from proposal.criterion import Counts, Criterion
from proposal.data.stream import Batch
from proposal.maskformer import MaskFormer, MaskFormerOutput
from proposal.training_loop import mixed_precision
from proposal.training_processes import mean_over_processes

# Residual blocks of detectron2's trunks, by class name; timm's have a switch of their own
BLOCKS = ("BottleneckBlock", "SwinTransformerBlock")


class TrainingStep(nn.Module):
    """Batch in, losses out. B: crops, S: their side."""

    def __init__(self, network: MaskFormer, criterion: Criterion, precision: str) -> None:
        super().__init__()
        self.network = network
        self.criterion = criterion
        self.precision = precision
        config = network.config
        self.register_buffer("mean", torch.tensor(config.pixel_mean)[:, None, None], False)
        self.register_buffer("std", torch.tensor(config.pixel_std)[:, None, None], False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """B crops (B, 3, S, S) -> the loss's weighted terms."""
        device = self.mean.device
        images = (batch.images.to(device, non_blocking=True).float() - self.mean) / self.std
        targets = [target.to(device) for target in batch.targets]
        with mixed_precision(device, self.precision):
            output = self.network(images)
        texts = getattr(self.network, "training_text_embeddings", None)
        return self.criterion(in_float32(output), targets, texts, batch.counts)

    def share_counts(self, batches: Sequence[Batch]) -> list[Batch]:
        """A step's batches, each told what all of them amount to, on all processes.

        Losses divided by that have the same gradients however the step is split up.
        """
        queries = self.network.config.num_queries
        counts = [self.criterion.count(batch.targets, queries) for batch in batches]
        means = [mean(vars(each)[name] for each in counts) for name in vars(counts[0])]
        shared = Counts(*mean_over_processes(means))
        return [replace(batch, counts=shared) for batch in batches]


def in_float32(output: MaskFormerOutput) -> MaskFormerOutput:
    """The same output in full precision, in which losses are taken."""
    changes = {
        name: value.float()
        for name, value in vars(output).items()
        if isinstance(value, Tensor) and name != "no_object"
    }
    return replace(output, **changes, auxiliary=tuple(map(in_float32, output.auxiliary)))


def checkpoint_trunk(network: MaskFormer) -> None:
    """Let the trunk's blocks forget what is inside them; the backward pass computes it again.

    Raises:
        ValueError: the trunk has no blocks that are known.
    """
    body = network.backbone.body
    if hasattr(body, "set_grad_checkpointing"):
        body.set_grad_checkpointing(True)
        return
    blocks = [module for module in body.modules() if type(module).__name__ in BLOCKS]
    if not blocks:
        raise ValueError(
            f"train.gradient_checkpointing knows no blocks of {network.config.backbone.type}: "
            "set it to false"
        )
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
