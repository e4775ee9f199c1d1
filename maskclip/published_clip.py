"""CLIPs in the original layout, alone or inside a published checkpoint (SPEC 7)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
from torch import Tensor

from maskclip.clip import MaskClip
from maskclip.clip_config import ClipConfig
from maskclip.clip_layout import clip_sizes, open_clip_model, original_layout, original_name
from maskclip.clip_models import build_clip, from_openai_layout
from maskclip.clip_weights import PROMPTS, read_clip_weights
from maskclip.published_config import PublishedConfig, given, read_published_config
from proposal.checkpoint_files import load_strictly
from proposal.published import check_weights
from proposal.weight_shapes import settle

LICENCE = "CC-BY-NC-4.0"  # of all weights that OVSeg's authors published


def load_clip_file(checkpoint: str | Path, config: str | Path | None = None) -> MaskClip:
    """A file with a CLIP in the original or open_clip's layout, with mask prompts or not.

    Also OpenAI's own archives, of which the weights alone are read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or holds code, weights are missing, unexpected or of the
            wrong shape (all are named), or the configuration contradicts them.
    """
    published = read_published_config(config)
    where = "the configuration" if config is None else str(config)
    state = original_layout(read_clip_weights(Path(checkpoint)))
    clip = read_clip(state, published, where, {})
    check_weights(expected_clip(clip, state), state, str(checkpoint))
    fill_clip(clip, state, str(checkpoint))
    return clip


def read_clip(
    towers: Mapping[str, Tensor],
    config: PublishedConfig,
    where: str,
    statistics: Mapping[str, tuple[float, ...]],
) -> MaskClip:
    """The CLIP that weights in the original layout belong to, with random weights.

    Raises:
        ValueError: the configuration contradicts the weights.
    """
    told = clip_sizes(towers)
    depth, forward = told.pop("mask_prompt_depth"), config.mask_prompt_forward
    if forward and not depth:
        raise ValueError(
            f"{where}: mask_prompt_forward is true, but the weights have no mask prompts "
            f"({PROMPTS}): set it to false"
        )
    if forward is not False and config.mask_prompt_depth is not None:
        stated = {"mask_prompt_depth": config.mask_prompt_depth}
        settle({"mask_prompt_depth": depth}, stated, f"{where}: ")
    sizes = settle(told, given(config.clip), f"{where}: clip.")
    return build_clip(clip_config(config, sizes, depth, statistics))


def clip_config(
    config: PublishedConfig,
    sizes: Mapping[str, Any],
    depth: int,
    statistics: Mapping[str, tuple[float, ...]],
) -> ClipConfig:
    """Sizes by SPEC's names, prompted layers, mean and std (if not OpenAI's) -> a MaskClip's."""
    forward = config.mask_prompt_forward
    return ClipConfig(
        name=config.variant or "published",
        model=open_clip_model(sizes),
        prompt_depth=depth,
        mask_prompts=bool(depth) if forward is None else forward,
        templates=config.templates,
        fill=open_clip.OPENAI_DATASET_MEAN,
        **statistics,
    )


def fill_clip(clip: MaskClip, towers: Mapping[str, Tensor], where: str) -> None:
    """Copy weights in the original layout into the CLIP that they fit."""
    load_strictly(clip, from_openai_layout(dict(towers)), where)


def expected_clip(clip: MaskClip, towers: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Original name -> shape of all weights of a CLIP; prompts may be one for all places."""
    shapes = {original_name(name): tuple(v.shape) for name, v in clip.state_dict().items()}
    if PROMPTS in shapes and PROMPTS in towers and towers[PROMPTS].shape[1] == 1:
        depth, _, width = shapes[PROMPTS]
        shapes[PROMPTS] = (depth, 1, width)
    return shapes


def describe_source(checkpoint: str | Path, licence: str) -> dict[str, Any]:
    """What a converted folder remembers of where its weights are from."""
    with Path(checkpoint).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "license": licence,
        "converted_from": {"file": Path(checkpoint).name, "sha256": digest},
    }
