"""Pretrained weights that a trunk starts from, in the forms that others publish them in."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from proposal.backbones import Backbone
from proposal.weight_files import read_weights

# What a classifier leaves behind in a trunk's file; nothing else may be left unused.
HEAD_KEYS = ("deeplab.", "conv_head.", "bn2.", "classifier.", "head.", "norm.", "fc.", "stem.fc.")
UNUSED_ENDINGS = (".attn_mask", "num_batches_tracked", "relative_position_index")
# Files of folded batch norms do not count batches, and nothing here reads the count; Swin's own
# files have one norm at the end, where our four maps have one each.
FRESH = re.compile(r"(.*\.)?num_batches_tracked|.*relative_position_index|norm[0-3]\.(weight|bias)")
WRAPPERS = ("backbone.bottom_up.", "backbone.body.", "backbone.", "model.", "encoder.")
ARRAY_PARTS = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): dict,
    ("_codecs", "encode"): lambda text, coding: text.encode(coding),
    **{
        (f"numpy.{core}.multiarray", name): getattr(np._core.multiarray, name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    },
}


def load_trunk(backbone: Backbone, path: Path | str) -> list[str]:
    """Load a pretrained trunk's file into a backbone -> the head's keys left unused.

    Safetensors, ``.pth`` of timm, torchvision, Swin's authors, ``.pkl`` of detectron2; what wraps
    the names (``backbone.`` …) is taken off. Nothing in a file is executed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or does not hold this trunk.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there are no weights at {path}: give a pretrained trunk's file")
    stored = read_arrays(path) if path.suffix == ".pkl" else read_weights(path)
    expected = backbone.body.state_dict()
    weights = {trunk_key(name, expected): tensor for name, tensor in stored.items()}
    unused = sorted(weights.keys() - expected.keys())
    strange = [k for k in unused if not k.startswith(HEAD_KEYS) and not k.endswith(UNUSED_ENDINGS)]
    missing = sorted(k for k in expected.keys() - weights.keys() if not FRESH.fullmatch(k))
    wrong = [k for k in weights.keys() & expected.keys() if weights[k].shape != expected[k].shape]
    if strange or missing or wrong:
        raise ValueError(
            f"{path} does not hold the trunk {type(backbone.body).__name__}: "
            f"{len(missing)} keys missing {missing[:3]}, {len(strange)} unknown {strange[:3]}, "
            f"{len(wrong)} of another shape {sorted(wrong)[:3]}"
        )
    trunk = {key: value for key, value in weights.items() if key in expected}
    backbone.body.load_state_dict(trunk, strict=False)
    return unused


def trunk_key(name: str, expected: Mapping[str, Any]) -> str:
    """A stored name -> the trunk's: unwrapped, from torchvision's spelling to detectron2's."""
    for wrapper in WRAPPERS:
        if name not in expected and name.startswith(wrapper):
            name = name.removeprefix(wrapper)
    if name in expected:
        return name
    spelled = re.sub(r"^layer(\d)\.", lambda m: f"res{int(m[1]) + 1}.", name)
    spelled = re.sub(r"\bbn(\d)\.", r"conv\1.norm.", spelled)
    spelled = spelled.replace("downsample.0.", "shortcut.").replace(
        "downsample.1.", "shortcut.norm."
    )
    spelled = spelled if spelled.startswith("res") else f"stem.{spelled}"
    return spelled if spelled in expected else name


class _ArrayUnpickler(pickle.Unpickler):
    """Builds containers, numbers and NumPy arrays; whatever else a pickle asks for is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """One of ``ARRAY_PARTS``."""
        if (module, name) not in ARRAY_PARTS:
            raise pickle.UnpicklingError(f"it holds pickled code ({module}.{name})")
        return ARRAY_PARTS[module, name]


def read_arrays(path: Path) -> dict[str, Tensor]:
    """A pickle of NumPy arrays (detectron2's model zoo) -> its weights by name.

    Raises:
        ValueError: the file is damaged, or holds more than arrays, which is never executed here.
    """
    try:
        stored = _ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        stored = stored.get("model", stored)
        arrays = {k: v for k, v in stored.items() if isinstance(v, np.ndarray)}
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    except Exception as error:  # a damaged pickle can fail in any way
        raise ValueError(
            f"{path} is no readable pickle of arrays: {error}; get the original file, or make a "
            "safetensors file of it"
        ) from error
    if not tensors:
        raise ValueError(f"{path} holds no arrays: give a pretrained trunk's file")
    return tensors
