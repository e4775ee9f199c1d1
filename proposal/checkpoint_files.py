"""The two files of a checkpoint folder: config.json beside model.safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from proposal.json_content import read_json_object
from proposal.whole_file import write_whole

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
FORMAT_VERSION = 1  # what this version writes, and the newest it reads


def write_checkpoint(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Write both files, the weights first; an interrupted write leaves the older files whole."""
    folder.mkdir(parents=True, exist_ok=True)
    # Clones, because safetensors refuses tensors that share memory.
    plain = {name: each.detach().cpu().clone().contiguous() for name, each in tensors.items()}
    write_whole(folder / WEIGHTS_NAME, save(plain, metadata={"format": "pt"}))
    text = json.dumps({"format_version": FORMAT_VERSION, **config}, indent=2, ensure_ascii=False)
    write_whole(folder / CONFIG_NAME, f"{text}\n".encode())


def read_config(folder: Path) -> dict[str, Any]:
    """What config.json says, without its format version, which is checked here.

    Raises:
        FileNotFoundError: there is no such folder, or it is no checkpoint.
        ValueError: the file is damaged, or written by a newer version.
    """
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is not a checkpoint folder: it has no {CONFIG_NAME}")
    config = read_json_object(path)
    _check_version(config.pop("format_version", None), path)
    return config


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All weights of a checkpoint, as they lie on the disk.

    Raises:
        FileNotFoundError: the folder has no weights.
        ValueError: the file is damaged (truncated, say), or a weight is not a number.
    """
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is not a checkpoint folder: it has no {WEIGHTS_NAME}")
    try:
        tensors = load(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or truncated, get it again: {error}") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{path} is damaged: the weight {name} holds NaN or infinity")
    return tensors


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy weights into ``module``, in the module's own precision; any mismatch is an error.

    Raises:
        ValueError: a weight is missing, unexpected or of the wrong shape; they are named.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in tensors]
    unexpected = [name for name in tensors if name not in own]
    if missing or unexpected:
        parts = [
            f"{kind} {_some(names)}"
            for kind, names in (("misses", missing), ("has the unexpected", unexpected))
            if names
        ]
        raise ValueError(f"{where} does not fit its config: it {' and '.join(parts)}")
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            expected, got = tuple(own[name].shape), tuple(tensor.shape)
            raise ValueError(
                f"{where} does not fit its config: {name} must be {expected}, got {got}"
            )
    module.load_state_dict(dict(tensors))


def _check_version(version: Any, path: Path) -> None:
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ValueError(f"{path} must have a format_version (a number from 1), got {version!r}")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format_version {version}, this program reads up to {FORMAT_VERSION}: "
            "update maskclip"
        )


def _some(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
