"""Files of weights that other programs saved, read without executing anything in them."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

STATE_KEYS = ("model", "state_dict")  # under which trainers keep the weights, beside other things
WRAPPER = "module."  # what distributed training puts before each name
# What trainers leave beside the weights; none of them can do anything but hold values
HARMLESS = [
    argparse.Namespace,
    np.dtype,
    np.ndarray,
    np._core.multiarray.scalar,
    np._core.multiarray._reconstruct,
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "bool")),
]
# What PyTorch raises for files that are cut off or something else
UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    KeyError,
    OSError,
    TypeError,
    ValueError,
)


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """A .pth, .pt, .bin or .safetensors file -> its weights by their names.

    They may lie under ``model`` or ``state_dict``, then whatever lies beside them is ignored; a
    ``module.`` before every name is dropped.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, holds code, or holds no weights.
    """
    path = Path(path)
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"the checkpoint {path} {kind}: give a file of weights (.pth)")
    stored = _read_safetensors(path) if path.suffix == ".safetensors" else _unpickle(path)
    state = _find_state(stored)
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors or not all(isinstance(key, str) for key in tensors):
        raise ValueError(
            f"{path} holds no weights: expected names with tensors, alone or under "
            f"{' or '.join(STATE_KEYS)}, got {_describe(stored)}"
        )
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{path} is damaged: the weight {name} holds NaN or infinity")
    if all(key.startswith(WRAPPER) for key in tensors):
        tensors = {key.removeprefix(WRAPPER): value for key, value in tensors.items()}
    return tensors


def _find_state(stored: Any) -> dict[Any, Any]:
    if not isinstance(stored, dict):
        return {}
    for key in STATE_KEYS:
        if isinstance(stored.get(key), dict):
            return stored[key]
    return stored


def _describe(stored: Any) -> str:
    if not isinstance(stored, dict):
        return f"a {type(stored).__name__}"
    return f"the keys {', '.join(map(str, list(stored)[:5])) or 'none'}"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or truncated, get it again: {error}") from error


def _unpickle(path: Path) -> Any:
    _refuse_others(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(HARMLESS):
            warnings.simplefilter("ignore")  # of pickle protocols: what cannot be read is told
            return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as e:
        code = re.search(r"GLOBAL (\S+) (?:was not|whose)|class (\S+) via", str(e))
        if code is None:
            raise ValueError(
                f"{path} is damaged, truncated or no PyTorch checkpoint: get it again"
            ) from e
        name = next(filter(None, code.groups()))
        raise ValueError(
            f"{path} holds pickled code ({name}), which is never executed here: get or make a file "
            "with the weights alone"
        ) from e


def _refuse_others(path: Path) -> None:
    """What people really end up with where a checkpoint should be."""
    with path.open("rb") as file:
        head = file.read(512).lstrip().lower()
    if not head:
        raise ValueError(f"{path} is empty (0 bytes): download it again")
    if head.startswith((b"<!doctype", b"<html")):
        raise ValueError(f"{path} is a web page, not a checkpoint: download it with a browser")
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path} is a Git LFS pointer, not the file itself: run git lfs pull")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise ValueError(
                    f"{path} is a TorchScript archive, which is a program and not executed here: "
                    "of OpenAI's CLIPs use the open_clip weights (--clip ViT-B-16/openai)"
                )
