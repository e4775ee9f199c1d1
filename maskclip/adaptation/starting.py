"""The CLIP that a training starts from, the folder it ends in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskclip.adaptation.config import TowerConfig
from maskclip.clip import ClipConfig, MaskClip
from maskclip.clip_models import build_clip, nano_config
from maskclip.hybrid import is_hybrid, load_trunk
from proposal.checkpoint_files import load_strictly, read_config, read_tensors, write_checkpoint
from proposal.configuration import config_from_dict, config_to_dict

PREFIX = "clip."  # of this part's weights in a checkpoint


def start_clip(config: TowerConfig, init: str | Path | None, device: str = "cpu") -> MaskClip:
    """The CLIP in the folder ``init``, or the one ``config.model`` names, changed as asked.

    Raises:
        ValueError: neither is given, or the weights do not fit.
        FileNotFoundError: a file is missing.
    """
    if init is not None:
        clip = load_clip(Path(init), config, device)
        return clip.to(memory_format=torch.channels_last)
    if not config.model:
        raise ValueError("a training needs a CLIP to start from: give --init or set clip.model")
    if is_hybrid(config.model):
        clip = build_clip(_changed(nano_config(config.model), config), device)
    else:
        plain = build_clip(config.model, device)
        clip = build_clip(_changed(plain.config, config), device)
        _fill(clip, plain.state_dict(), config.model)
    if config.trunk:
        load_trunk(clip.tower.visual, config.trunk)
    return clip.to(memory_format=torch.channels_last)  # convolutions take half the time on a CPU


def load_clip(folder: Path, config: TowerConfig | None = None, device: str = "cpu") -> MaskClip:
    """The CLIP part of a checkpoint or run folder, changed as asked.

    Raises:
        FileNotFoundError: there is no such folder, or a file is missing.
        ValueError: it holds no CLIP, or its files are damaged or do not fit each other.
    """
    settings = read_config(folder)
    if "clip" not in settings:
        raise ValueError(f"{folder} holds no CLIP: it has {', '.join(sorted(settings))}")
    stored = config_from_dict(ClipConfig, settings["clip"], f"{folder}/config.json: clip")
    clip = build_clip(_changed(stored, config or TowerConfig()), device)
    tensors = read_tensors(folder)
    own = {k.removeprefix(PREFIX): v for k, v in tensors.items() if k.startswith(PREFIX)}
    _fill(clip, own, str(folder))
    return clip


def save_clip(clip: MaskClip, folder: Path, provenance: dict[str, Any]) -> None:
    """Write a run folder's checkpoint, which holds the CLIP part alone."""
    config = {
        "name": folder.name,
        "clip": config_to_dict(clip.config),
        "provenance": provenance,
    }
    tensors = {f"{PREFIX}{name}": value for name, value in clip.state_dict().items()}
    write_checkpoint(folder, config, tensors)


def _changed(stored: ClipConfig, config: TowerConfig) -> ClipConfig:
    wanted = {
        "prompt_depth": config.prompt_depth,
        "templates": config.templates or None,
        "background": config.background or None,
        "background_strength": config.background_strength,
    }
    return replace(stored, **{name: value for name, value in wanted.items() if value is not None})


def _fill(clip: MaskClip, weights: dict[str, Tensor], where: str) -> None:
    """Load weights; prompts of another depth than asked for start anew."""
    own = clip.state_dict()
    key = "tower.prompts"
    weights = {name: value for name, value in weights.items() if name != key or name in own}
    if key in own and (key not in weights or weights[key].shape != own[key].shape):
        weights[key] = own[key]
    load_strictly(clip, weights, where)
