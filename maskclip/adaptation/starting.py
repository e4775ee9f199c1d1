"""The CLIP that a training starts from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from maskclip.adaptation.config import TowerConfig
from maskclip.adaptation.parameters import CONTEXT, PROMPTS
from maskclip.checkpoint import load_clip
from maskclip.checkpoint_source import is_checkpoint
from maskclip.clip import MaskClip
from maskclip.clip_config import ClipConfig
from maskclip.clip_models import build_clip
from maskclip.hybrid import hybrid_trunk
from maskclip.trunk_weights import load_trunk
from proposal.checkpoint_files import load_strictly


def start_clip(config: TowerConfig, init: str | Path | None, device: str = "cpu") -> MaskClip:
    """The CLIP in the folder ``init``, or the one ``config.model`` names, changed as asked.

    Prompts that are not there yet, or were of another depth, start anew; so does what makes tokens
    of the photos' context.

    Raises:
        ValueError: neither is given, or the weights do not fit.
        FileNotFoundError: a file is missing.
    """
    if init is None and not config.model:
        raise ValueError("a training needs a CLIP to start from: give --init or set clip.model")
    stored = load_clip(config.model if init is None else str(init))
    if config.average_with:
        for folder in config.average_with:
            if not is_checkpoint(folder):
                raise FileNotFoundError(
                    f"clip.average_with must name runs or checkpoint folders, got {folder!r}"
                )
        stored.load_state_dict(_mean_weights([stored, *map(load_clip, config.average_with)]))
    clip = build_clip(_changed(stored.config, config))
    own, weights = clip.state_dict(), stored.state_dict()
    fresh = {name for name in PROMPTS if _shape(own, name) != _shape(weights, name)}
    fresh |= {name for name in own if name.startswith(CONTEXT) and name not in weights}
    weights = {name: value for name, value in weights.items() if name not in fresh}
    weights |= {name: own[name] for name in fresh if name in own}
    load_strictly(clip, weights, config.model if init is None else str(init))
    if clip.text_context is not None and "text_context.tokens" in fresh:
        clip.text_context.begin(clip.text_encoder.model, clip.text_encoder.tokenizer)
    if config.photo_context:
        clip.photo_context.load(config.photo_context)
    if config.photo_detector:
        clip.photo_context.detector.load(config.photo_detector)
    if init is None and config.trunk:
        _start_trunk(clip, config.trunk)
    # Convolutions take half the time on a CPU with the channels last.
    return clip.to(device).to(memory_format=torch.channels_last)


def _start_trunk(clip: MaskClip, source: str) -> None:
    """Take a file's weights for the trunk, or those that another hybrid tower's has learned."""
    if not is_checkpoint(source):
        load_trunk(clip.tower.visual, source)
        return
    own, other = (hybrid_trunk(each.tower.visual) for each in (clip, load_clip(source)))
    load_strictly(own, other.state_dict(), f"the trunk of {source}")


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


def _shape(state: dict[str, Tensor], name: str) -> torch.Size | None:
    return state[name].shape if name in state else None


def _changed(stored: ClipConfig, config: TowerConfig) -> ClipConfig:
    wanted = {
        "prompt_depth": config.prompt_depth,
        "templates": config.templates or None,
        "background": config.background or None,
        "background_strength": config.background_strength,
        "box_margin": config.box_margin,
        "pixel_prompt": config.pixel_prompt,
        "text_context": config.text_context,
        "photo_context": True if config.photo_context else None,
        "photo_detector": True if config.photo_detector else None,
    }
    return replace(stored, **{name: value for name, value in wanted.items() if value is not None})
