"""Processes that train together."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from proposal.training_processes import (
    Processes,
    any_process,
    mean_over_processes,
    spread,
    start_processes,
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"per_machine": 0}, "--num-gpus must be at least 1, got 0"),
        ({"machines": 0}, "--num-machines must be at least 1"),
        ({"machines": 2}, "--num-machines needs --dist-url"),
        ({"machines": 2, "machine_rank": 2, "url": "tcp://x:1"}, "--machine-rank must be 0 to 1"),
        ({"machine_rank": -1}, "--machine-rank must be 0 to 0, got -1"),
    ],
)
def test_impossible_numbers_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Processes(**arguments)


def test_more_gpus_than_there_are_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Processes(2).all == 2
    with pytest.raises(ValueError, match="--num-gpus must be at most this machine's 2, got 3"):
        Processes(3)


def test_one_process_needs_nobody():
    seen = []
    start_processes(seen.append, ("work",), Processes())
    assert seen == ["work"]
    step = nn.Linear(1, 1)
    assert spread(step) is step
    assert mean_over_processes([1.0, 2.0]) == [1.0, 2.0] and not any_process(False)
