"""What happens between the steps of a training."""

from __future__ import annotations

import random
import signal
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from proposal.training_hooks import (
    AverageWeights,
    SeedSteps,
    StepSchedule,
    StopOnSignal,
    Stopped,
)
from proposal.training_state import read_state, restore, write_state


def test_a_signal_stops_after_the_step():
    earlier = signal.getsignal(signal.SIGTERM)
    hook = StopOnSignal()
    hook.before_train()
    hook.after_step()  # nothing was asked for
    signal.raise_signal(signal.SIGTERM)  # does not end us
    with pytest.raises(Stopped):
        hook.after_step()
    hook.after_train()
    assert signal.getsignal(signal.SIGTERM) is earlier


def test_a_second_signal_is_not_ours():
    hook = StopOnSignal()
    hook.before_train()
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    hook.after_train()


def test_average_by_hand():
    """At step 0 the decay is 1/10, later what is configured."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    hook = AverageWeights(network, 0.5)
    nn.init.ones_(network.weight)
    hook.trainer = SimpleNamespace(iter=0)
    hook.after_step()
    assert hook.average.weight.item() == pytest.approx(0.9)
    nn.init.constant_(network.weight, 2.0)
    hook.trainer = SimpleNamespace(iter=1000)
    hook.after_step()
    assert hook.average.weight.item() == pytest.approx(0.5 * 0.9 + 0.5 * 2)
    assert network.weight.item() == 2


def test_steps_are_seeded_by_their_number():
    hook, drawn = SeedSteps(3), []
    for step in (5, 6, 5):
        hook.trainer = SimpleNamespace(iter=step)
        hook.before_step()
        drawn.append((torch.rand(1).item(), random.random()))
    assert drawn[0] == drawn[2] != drawn[1]


def test_the_highest_learning_rate_is_told():
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": [each], "lr": lr} for each, lr in zip(weights, (0.1, 1.0), strict=True)]
    optimizer = torch.optim.SGD(groups)
    written = {}
    storage = SimpleNamespace(put_scalar=lambda name, value, **_: written.update({name: value}))
    hook = StepSchedule(LambdaLR(optimizer, lambda step: 1 / (1 + step)))
    hook.trainer = SimpleNamespace(storage=storage)
    optimizer.step()
    hook.after_step()
    assert written == {"lr": 1.0} and optimizer.param_groups[1]["lr"] == 0.5


def test_states_come_back(tmp_path):
    network, other = nn.Linear(2, 2), nn.Linear(2, 2)
    write_state(tmp_path / "s.pth", {"network": network.state_dict(), "iterations_done": 7})
    assert restore(read_state(tmp_path / "s.pth"), {"network": other}, tmp_path) == 7
    assert torch.equal(other.weight, network.weight)
    with pytest.raises(ValueError, match="another configuration"):
        restore(read_state(tmp_path / "s.pth"), {"network": nn.Linear(3, 2)}, tmp_path)


def test_nothing_in_a_state_is_executed(tmp_path):
    torch.save({"iterations_done": print}, tmp_path / "s.pth")
    with pytest.raises(ValueError, match="is damaged"):
        read_state(tmp_path / "s.pth")
