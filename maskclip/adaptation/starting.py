"""The CLIP that a training starts from, the folder it ends in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskclip.adaptation.config import TowerConfig
from maskclip.checkpoint import load_clip
from maskclip.clip import ClipConfig, MaskClip
from maskclip.clip_models import build_clip
from maskclip.hybrid import load_trunk
from maskclip.text_files import write_clip_config
from proposal.checkpoint_files import load_strictly, write_checkpoint

PROMPTS = "tower.prompts"


def start_clip(config: TowerConfig, init: str | Path | None, device: str = "cpu") -> MaskClip:
    """The CLIP in the folder ``init``, or the one ``config.model`` names, changed as asked.

    Prompts of another depth than was stored start anew.

    Raises:
        ValueError: neither is given, or the weights do not fit.
        FileNotFoundError: a file is missing.
    """
    if init is None and not config.model:
        raise ValueError("a training needs a CLIP to start from: give --init or set clip.model")
    stored = load_clip(config.model if init is None else str(init))
    if config.average_with:
        stored.load_state_dict(_mean_weights([stored, *map(load_clip, config.average_with)]))
    clip = build_clip(_changed(stored.config, config))
    own, weights = clip.state_dict(), stored.state_dict()
    if stored.config.prompt_depth != clip.config.prompt_depth:
        weights.pop(PROMPTS, None)
        weights |= {name: value for name, value in own.items() if name == PROMPTS}
    load_strictly(clip, weights, config.model if init is None else str(init))
    if init is None and config.trunk:
        load_trunk(clip.tower.visual, config.trunk)
    # Convolutions take half the time on a CPU with the channels last.
    return clip.to(device).to(memory_format=torch.channels_last)


def _mean_weights(clips: list[MaskClip]) -> dict[str, Tensor]:
    """CLIPs of one architecture -> the mean of each weight.

    Raises:
        ValueError: they differ in their weights' names or shapes.
    """
    states = [clip.state_dict() for clip in clips]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    if any(each != shapes[0] for each in shapes):
        raise ValueError("clip.average_with must name runs of the same architecture as --init")
    return {
        name: torch.stack([state[name] for state in states]).mean(0)
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }


def save_clip(clip: MaskClip, folder: Path, provenance: dict[str, Any]) -> None:
    """Write a run folder's checkpoint, which holds the CLIP part alone."""
    config = {
        "name": folder.name,
        "clip": write_clip_config(clip, folder),
        "provenance": provenance,
    }
    tensors = {f"clip.{name}": value for name, value in clip.state_dict().items()}
    write_checkpoint(folder, config, tensors)


def _changed(stored: ClipConfig, config: TowerConfig) -> ClipConfig:
    wanted = {
        "prompt_depth": config.prompt_depth,
        "templates": config.templates or None,
        "background": config.background or None,
        "background_strength": config.background_strength,
        "box_margin": config.box_margin,
    }
    return replace(stored, **{name: value for name, value in wanted.items() if value is not None})
