"""The network with its loss, and what saves its memory."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from proposal.backbones import BackboneConfig
from proposal.criterion import Criterion, CriterionConfig
from proposal.data.stream import Batch
from proposal.maskformer import MaskFormer, MaskFormerConfig
from proposal.matcher import Target
from proposal.training_step import TrainingStep, checkpoint_trunk

BACKBONES = {
    "swin": BackboneConfig(
        type="swin",
        embed_dim=8,
        depths=(1, 1, 1, 1),
        num_heads=(1, 1, 1, 1),
        window_size=3,
        drop_path_rate=0.2,
    ),
    "resnet": BackboneConfig(
        depth=50, stem_out_channels=8, res2_out_channels=32, width_per_group=4, freeze_at=2
    ),
    "timm": BackboneConfig(type="timm:test_convnext"),
}
SIZES = {"hidden_dim": 32, "dim_feedforward": 32, "conv_dim": 32, "mask_dim": 8, "num_queries": 4}


def build(kind: str) -> TrainingStep:
    torch.manual_seed(0)
    config = MaskFormerConfig(BACKBONES[kind], **SIZES, nheads=2, dec_layers=2, dropout=0.0)
    return TrainingStep(MaskFormer(config), Criterion(CriterionConfig()), "float32").train()


def batch(images: int = 2) -> Batch:
    torch.manual_seed(1)
    masks = [torch.rand(count, 64, 64) > 0.5 for count in range(images)]
    targets = [Target(each, torch.zeros(len(each), dtype=torch.int64)) for each in masks]
    return Batch(torch.randint(0, 255, (images, 3, 64, 64), dtype=torch.uint8), targets)


def learn(step: TrainingStep) -> tuple[float, dict[str, torch.Tensor]]:
    torch.manual_seed(2)  # of the drop path
    loss = sum(step(batch()).values())
    loss.backward()
    gradients = {n: p.grad for n, p in step.named_parameters() if p.grad is not None}
    return loss.item(), gradients


@pytest.mark.parametrize("kind", BACKBONES)
def test_checkpointing_changes_no_gradient(kind):
    plain, saving = build(kind), build(kind)
    checkpoint_trunk(saving.network)
    (loss, expected), (same, found) = learn(plain), learn(saving)
    assert same == pytest.approx(loss, rel=1e-5)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        assert torch.allclose(gradient, found[name], atol=1e-4, rtol=1e-3), name


def test_a_copy_of_a_checkpointed_network_is_its_own():
    """The averaged weights are such a copy: its blocks once ran on the original's weights."""
    network = build("resnet").network
    checkpoint_trunk(network)
    copy = deepcopy(network).eval()
    images = torch.rand(1, 3, 64, 64)
    before = copy(images).mask_logits
    for parameter in network.parameters():
        parameter.data.zero_()
    assert torch.equal(copy(images).mask_logits, before)


def test_a_frozen_stem_stays_frozen():
    _, gradients = learn(build("resnet"))
    names = {name.removeprefix("network.backbone.body.") for name in gradients}
    assert not any(name.startswith(("stem", "res2")) for name in names)
    assert any(name.startswith("res3") for name in names)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_losses_are_taken_in_full_precision(precision):
    step = build("timm")
    step.precision = precision
    losses = step(batch())
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad.dtype == torch.float32 for p in step.parameters() if p.grad is not None)


def test_the_batches_of_a_step_know_what_they_amount_to():
    """0 and 1 masks: a half on average; weights of 4 queries: 0.4 and 1.3."""
    step, whole = build("timm"), batch()
    parts = [Batch(whole.images[i, None], [whole.targets[i]]) for i in range(2)]
    for part in step.share_counts(parts):
        assert part.counts.masks == 0.5
        assert part.counts.class_weight == pytest.approx((0.4 + 1.3) / 2)
