"""Checkpoint folders, whole and damaged."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from proposal.checkpoint_files import (
    load_strictly,
    read_config,
    read_tensors,
    write_checkpoint,
)
from proposal.whole_file import write_whole


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_there_and_back(tmp_path):
    module = tiny()
    shared = {**module.state_dict(), "twin": module[0].weight}  # shares memory with another
    write_checkpoint(tmp_path / "new", {"name": "größe"}, shared)
    assert read_config(tmp_path / "new") == {"name": "größe"}
    tensors = read_tensors(tmp_path / "new")
    assert torch.equal(tensors.pop("twin"), module[0].weight)
    other = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    load_strictly(other, tensors, "here")
    assert torch.equal(other[0].weight, module[0].weight)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_half_precision_becomes_the_modules_own(tmp_path):
    module = tiny()
    halves = {k: v.half() if v.is_floating_point() else v for k, v in module.state_dict().items()}
    write_checkpoint(tmp_path, {}, halves)
    load_strictly(module, read_tensors(tmp_path), "here")
    assert module[0].weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("0.weight"), "misses 0.weight"),
        (lambda t: t.update(new=torch.zeros(1)), "has the unexpected new"),
        (lambda t: t.update({"0.bias": torch.zeros(4)}), r"0.bias must be \(3,\), got \(4,\)"),
    ],
)
def test_weights_that_do_not_fit_are_named(change, message):
    module = tiny()
    tensors = dict(module.state_dict())
    change(tensors)
    with pytest.raises(ValueError, match=message):
        load_strictly(module, tensors, "here")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_named(tmp_path, value):
    write_checkpoint(tmp_path, {}, {"good": torch.zeros(2), "bad": torch.tensor([0.0, value])})
    with pytest.raises(ValueError, match="the weight bad holds NaN"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("size", [0, 5, 60, -1])
def test_truncated_weights_are_refused(tmp_path, size):
    write_checkpoint(tmp_path, {}, {"a": torch.zeros(100)})
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="damaged or truncated"):
        read_tensors(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable JSON"),
        ("[]", "must hold a JSON object, got a list"),
        ("{}", "must have a format_version"),
        (json.dumps({"format_version": 2}), "reads up to 1: update maskclip"),
        (json.dumps({"format_version": True}), "must have a format_version"),
    ],
)
def test_damaged_configs_are_refused(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_config(tmp_path)


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="it has no config.json"):
        read_config(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="it has no model.safetensors"):
        read_tensors(tmp_path)


def test_a_failed_write_leaves_the_older_file(tmp_path):
    path = tmp_path / "a"
    write_whole(path, b"old")
    with pytest.raises(TypeError):
        write_whole(path, "not bytes")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
