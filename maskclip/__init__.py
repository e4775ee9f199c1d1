"""Stage 2, what things are: mask-adapted CLIP with the segmentor that joins both stages."""

from __future__ import annotations

import importlib
from typing import Any

# Loaded when asked for: PyTorch and open_clip take seconds, and most modules need neither.
_HOMES = {
    "MaskClip": "maskclip.clip",
    "Segmentation": "maskclip.segmentation",
    "Segmentor": "maskclip.segmentor",
}
__all__ = ["MaskClip", "Segmentation", "Segmentor"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"maskclip needs the package {error.name}, which is not installed: run `make setup` "
            "and use .venv/bin/python",
            name=error.name,
        ) from error
