"""Convolutions of TensorFlow.js graph models: a JSON of nodes beside binary files of weights."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

KINDS = {"float32": np.float32, "float16": np.float16, "int32": np.int32}
ADDITIONS = ("Add", "AddV2", "BiasAdd")


@dataclass(frozen=True)
class Convolution:
    """What one convolution of a graph multiplies with and adds."""

    weight: Tensor  # (out, in, h, w) float
    bias: Tensor  # (out,) float


def read_convolutions(path: str | Path) -> tuple[Convolution, ...]:
    """A graph model's JSON -> its convolutions with biases, in the order of their names.

    The names that converters give end in numbers (``convolution_7``, the first one in none), which
    count the convolutions as the network has them. Nothing in the files is executed.

    Raises:
        FileNotFoundError: the JSON, or a file of weights that it names, is missing.
        ValueError: they are damaged, or no such model.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no TensorFlow.js graph model {path}: give its .json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        nodes = content["modelTopology"]["node"]
        groups = content["weightsManifest"]
        values: dict[str, np.ndarray] = {}
        for group in groups:
            files = [path.parent / name for name in group["paths"]]
            values |= _read_group(group["weights"], files)
        found = [node for node in nodes if node["op"] == "Conv2D"]
        return tuple(_convolution(node, nodes, values) for node in sorted(found, key=_number))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f"{path} is damaged, or no TensorFlow.js graph model with weights beside it: get it "
            f"again ({type(error).__name__}: {error})"
        ) from error


def _read_group(entries: list[dict[str, Any]], files: list[Path]) -> dict[str, np.ndarray]:
    """The weights of one group of files, which follow one another without gaps."""
    if missing := [file for file in files if not file.is_file()]:
        raise FileNotFoundError(f"there is no file of weights {missing[0]} beside the model")
    stored = b"".join(file.read_bytes() for file in files)
    values, begin = {}, 0
    for entry in entries:
        kind = entry.get("quantization", {}).get("dtype", entry["dtype"])
        if kind not in KINDS:
            raise ValueError(f"the weight {entry['name']} must be one of {list(KINDS)}, got {kind}")
        count = math.prod(entry["shape"])
        end = begin + count * np.dtype(KINDS[kind]).itemsize
        if end > len(stored):
            raise ValueError(f"{files[0]} is cut off in the weight {entry['name']}: get it again")
        value = np.frombuffer(stored[begin:end], KINDS[kind]).reshape(entry["shape"])
        values[entry["name"]], begin = value, end
    if begin != len(stored):
        raise ValueError(f"{files[0]} has {len(stored) - begin} bytes too many: get it again")
    return values


def _number(node: dict[str, Any]) -> int:
    ending = node["name"].rpartition("_")[2]
    return int(ending) if ending.isdecimal() else 0


def _convolution(
    node: dict[str, Any], nodes: list[dict[str, Any]], values: dict[str, np.ndarray]
) -> Convolution:
    kernel = values[node["input"][1]].astype(np.float32)  # (h, w, in, out)
    added = [
        values[other]
        for reader in nodes
        if reader["op"] in ADDITIONS and node["name"] in reader.get("input", [])
        for other in reader["input"]
        if other in values
    ]
    weight = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous()
    return Convolution(weight, torch.from_numpy(added[0].astype(np.float32)))
