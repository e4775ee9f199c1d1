"""The weights of a TorchScript archive, as OpenAI publishes its CLIPs, without its program."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MODULES = "__torch__."  # the classes of the archive's own program
DTYPES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}
CAUSAL_MASK = "attn_mask"  # computed, not learned


def is_torchscript(path: Path) -> bool:
    """Is it a program with its weights?"""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """The tensors of an archive under the names of their modules; its program is never looked at.

    Raises:
        ValueError: the archive is damaged, or holds more than modules and tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (content,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            root = content.removesuffix("data.pkl")
            reader = _Reader(archive.read(content), lambda key: archive.read(f"{root}data/{key}"))
            tensors = dict(_tensors(vars(reader.load())))
    except (pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no archive of weights alone: {error}") from error
    except Exception as error:  # a damaged pickle raises anything
        raise ValueError(f"{path} is damaged: {error}") from error
    return {name: value for name, value in tensors.items() if not name.endswith(CAUSAL_MASK)}


class _Module:
    """Stands for any module: its attributes, nothing that could run."""


class _Reader(pickle.Unpickler):
    """Knows modules, tensors and their storages; whatever else a pickle names is refused."""

    def __init__(self, content: bytes, read: Callable[[str], bytes]) -> None:
        super().__init__(io.BytesIO(content))
        self._read = read
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith(MODULES):
            return _Module
        if module == "torch" and name in DTYPES:
            return name
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
            **{("torch.jit._pickle", f"build_{kind}list"): list for kind in _LISTS},
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return known[module, name]

    def persistent_load(self, saved: tuple) -> Tensor:
        _, kind, key, *_ = saved
        if key not in self._storages:
            content = bytearray(self._read(key))
            self._storages[key] = torch.frombuffer(content, dtype=DTYPES[kind])
        return self._storages[key]


_LISTS = ("int", "double", "bool", "tensor")


def _rebuild(storage: Tensor, offset: int, size: tuple, stride: tuple, *_: object) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _tensors(attributes: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, value in attributes.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, _Module):
            yield from _tensors(vars(value), f"{prefix}{name}.")
