"""What happens between the steps of a training."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from proposal.training_hooks import (
    AverageWeights,
    ClipGradients,
    StopOnSignal,
    Stopped,
    load_state,
    restore,
    save_state,
)


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


def test_gradients_are_clipped_together():
    network = nn.Linear(2, 1, bias=True)
    network.weight.grad, network.bias.grad = torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])
    written = {}
    storage = SimpleNamespace(put_scalar=lambda name, value, **_: written.update({name: value}))
    hook = ClipGradients(network, 1.0)
    hook.trainer = SimpleNamespace(storage=storage)
    hook.after_backward()
    assert written == {"gradient_norm": 5.0}
    assert network.bias.grad.item() == pytest.approx(0.8, abs=1e-4)


def test_states_come_back_with_the_random_numbers(tmp_path):
    network = nn.Linear(2, 2)
    state = {"network": network.state_dict(), "random": torch.get_rng_state(), "iterations_done": 7}
    expected = torch.rand(3)
    save_state(tmp_path / "s.pth", state)
    other = nn.Linear(2, 2)
    done = restore(load_state(tmp_path / "s.pth"), {"network": other}, tmp_path)
    assert done == 7
    assert torch.equal(other.weight, network.weight)
    assert torch.equal(torch.rand(3), expected)


def test_nothing_in_a_state_is_executed(tmp_path):
    torch.save({"iterations_done": print}, tmp_path / "s.pth")
    with pytest.raises(ValueError, match="is damaged, start anew without --resume"):
        load_state(tmp_path / "s.pth")
