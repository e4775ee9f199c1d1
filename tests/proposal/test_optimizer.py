"""Groups and schedule of the optimizer."""

from __future__ import annotations

import pytest
from torch import nn

from proposal.optimizer import build_optimizer, freeze, schedule_factor
from proposal.training_config import TrainConfig


def test_backbone_and_norms_have_rates_and_decays_of_their_own():
    network = nn.ModuleDict(
        {
            "backbone": nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1)),
            "query_embed": nn.Embedding(3, 2),
            "head": nn.Linear(2, 2),
        }
    )
    config = TrainConfig(lr=1.0, backbone_lr_factor=0.1, weight_decay=0.5)
    groups = build_optimizer(network, config).param_groups
    found = {(g["lr"], g["weight_decay"]): sum(p.numel() for p in g["params"]) for g in groups}
    assert found == {(0.1, 0.5): 1, (0.1, 0.0): 2, (1.0, 0.0): 6, (1.0, 0.5): 6}


def test_schedule_by_hand():
    config = TrainConfig(iterations=100, warmup_iterations=10, warmup_factor=0.0, poly_power=1.0)
    factor = schedule_factor(config)
    assert factor(0) == 0
    assert factor(5) == pytest.approx(0.5 * 0.95)
    assert factor(50) == pytest.approx(0.5)
    assert factor(100) == 0


@pytest.mark.parametrize(
    ("frozen", "only", "trained"),
    [
        ((), (), {"first.weight", "first.bias", "second.weight", "second.bias"}),
        (("first",), (), {"second.weight", "second.bias"}),
        ((), ("second",), {"second.weight", "second.bias"}),
        (("second.bias",), ("second", "first.b"), {"first.bias", "second.weight"}),
    ],
)
def test_what_is_trained(frozen, only, trained):
    network = nn.ModuleDict({"first": nn.Linear(2, 2), "second": nn.Linear(2, 2)})
    freeze(network, frozen, only)
    assert {name for name, p in network.named_parameters() if p.requires_grad} == trained


@pytest.mark.parametrize(
    ("frozen", "only", "message"),
    [
        (("third",), (), "train.frozen names 'third', with which no parameter begins"),
        ((), ("first", "third"), "train.only names 'third', with which no parameter begins"),
        (("first",), ("first",), "leave no parameter to train"),
    ],
)
def test_freezing_nothing_or_all_is_refused(frozen, only, message):
    with pytest.raises(ValueError, match=message):
        freeze(nn.ModuleDict({"first": nn.Linear(2, 2)}), frozen, only)
