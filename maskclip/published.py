"""Published OVSeg checkpoints as Segmentors (SPEC 7)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskclip.clip import MaskClip
from maskclip.clip_layout import original_layout
from maskclip.clip_models import build_clip
from maskclip.names import read_class_file
from maskclip.published_clip import (
    LICENCE,
    clip_config,
    describe_source,
    expected_clip,
    fill_clip,
    read_clip,
)
from maskclip.published_config import PublishedConfig, given, read_published_config
from maskclip.segmentor import Segmentor
from maskclip.segmentor_config import SegmentorConfig
from proposal.configuration import config_from_dict, override_config
from proposal.maskformer import MaskFormer, MaskFormerConfig
from proposal.maskformer_proposer import MaskFormerProposer
from proposal.published import (
    CLASS_WEIGHTS,
    check_weights,
    expected_weights,
    fill_network,
    read_network,
)
from proposal.weight_files import read_weights
from proposal.weight_shapes import Shapes

logger = logging.getLogger(__name__)

ADAPTER = "clip_adapter."
TOWERS = f"{ADAPTER}clip_model."
STATISTICS = ("pixel_mean", "pixel_std")  # of the adapter, in 0-255
COCO_STUFF = Path(__file__).parents[1] / "configs" / "vocabularies" / "coco_stuff171.txt"
PUBLISHED_SIDES = {"swin": 640, "resnet-deeplab": 512}
PUBLISHED_THRESHOLDS = {"swin": 0.4, "resnet-deeplab": 0.5}


def load_published(
    checkpoint: str | Path, config: str | Path | None = None, overrides: Sequence[str] = ()
) -> Segmentor:
    """A published ``.pth`` and what it does not tell (a preset's name or JSON) -> a Segmentor.

    ``overrides`` are settings of the Segmentor such as ``mask_threshold=0.4``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is damaged or holds code, weights are missing, unexpected or of the
            wrong shape (all are named), or the configuration contradicts them.
    """
    published = read_published_config(config)
    where = "the configuration" if config is None else str(config)
    state = read_weights(checkpoint)
    _refuse_others(state, str(checkpoint))
    swin = any(name.startswith("backbone.patch_embed.") for name in state)
    stated = _stated_network(published, "swin" if swin else "resnet-deeplab")
    names = _training_names(state, published, where)
    network = read_network(state, {**stated, "training_names": len(names)}, where)
    clip = read_clip(_towers(state), published, where, _statistics(state))
    if network.config.embed_dim != clip.embed_dim:
        raise ValueError(
            f"{checkpoint} is not of one piece: its queries speak in {network.config.embed_dim} "
            f"dimensions, its CLIP in {clip.embed_dim}"
        )
    expected = expected_weights(network) | _expected_of_clip(clip, state)
    check_weights(expected, state, str(checkpoint))
    fill_network(network, state, str(checkpoint))
    fill_clip(clip, _towers(state), str(checkpoint))
    _remember_texts(network, clip, names)
    settings = _settings(published, network.config.backbone.type)
    return Segmentor(
        MaskFormerProposer(network),
        clip,
        override_config(settings, overrides),
        name=published.variant or Path(checkpoint).stem,
        proposer_name="maskformer",
        provenance=describe_source(checkpoint, LICENCE),
    )


def build_preset(name: str) -> Segmentor:
    """The full-size networks of a preset, with random weights.

    Raises:
        FileNotFoundError: there is no such preset.
    """
    config = read_published_config(name)
    depth = config.mask_prompt_depth or 0
    clip = build_clip(clip_config(config, given(config.clip), depth, {}))
    stated = _stated_network(config, config.backbone.type)
    stated |= {"classifier": "text", "embed_dim": clip.embed_dim}
    network = MaskFormer(config_from_dict(MaskFormerConfig, stated, name)).eval()
    settings = _settings(config, config.backbone.type)
    return Segmentor(MaskFormerProposer(network), clip, settings, name=name)


def _settings(config: PublishedConfig, trunk: str) -> SegmentorConfig:
    threshold = config.mask_threshold
    return SegmentorConfig(
        mask_threshold=PUBLISHED_THRESHOLDS[trunk] if threshold is None else threshold,
        fusion_weight=config.fusion_weight,
        compat=True,
    )


def _stated_network(config: PublishedConfig, trunk: str) -> dict[str, Any]:
    """Fields of MaskFormerConfig that the configuration states, or that were always so."""
    own = {each.name for each in fields(MaskFormerConfig)}
    stated = {name: value for name, value in given(config).items() if name in own}
    stated.setdefault("short_side", PUBLISHED_SIDES[trunk])
    stated.setdefault("max_size", 4 * stated["short_side"])
    return stated | {"backbone": given(config.backbone), "published_rounding": True}


def _expected_of_clip(clip: MaskClip, state: Mapping[str, Tensor]) -> Shapes:
    towers = expected_clip(clip, _towers(state))
    statistics = {f"{ADAPTER}{name}": (1, 3, 1, 1) for name in STATISTICS}
    return {
        **{f"{TOWERS}{name}": shape for name, shape in towers.items()},
        **{name: shape for name, shape in statistics.items() if name in state},
    }


def _towers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    own = {k.removeprefix(TOWERS): v for k, v in state.items() if k.startswith(TOWERS)}
    return original_layout(own)


def _statistics(state: Mapping[str, Tensor]) -> dict[str, tuple[float, ...]]:
    """Mean and std of RGB in [0, 1], where the adapter has them."""
    names = {"mean": f"{ADAPTER}pixel_mean", "std": f"{ADAPTER}pixel_std"}
    return {
        ours: tuple((state[theirs].double().flatten() / 255).tolist())
        for ours, theirs in names.items()
        if theirs in state and state[theirs].numel() == 3
    }


def _refuse_others(state: Mapping[str, Tensor], where: str) -> None:
    for prefix, what in (
        ("sem_seg_head.", "proposal network"),
        ("backbone.", "backbone"),
        (TOWERS, "CLIP"),
    ):
        if not any(name.startswith(prefix) for name in state):
            raise ValueError(
                f"{where} is no OVSeg checkpoint: it has no {what} ({prefix}*) among its "
                f"{len(state)} weights ({', '.join(sorted(state)[:3])}, ...); convert a CLIP alone "
                "with --from clip"
            )


def _training_names(
    state: Mapping[str, Tensor], config: PublishedConfig, where: str
) -> tuple[str, ...]:
    """The names that stage 1 was trained with, as far as they are known."""
    weights = state.get(CLASS_WEIGHTS)
    names = config.training_names
    if names is not None:
        if weights is not None and len(weights) != len(names) + 1:
            raise ValueError(
                f"{where}: training_names are {len(names)}, but {CLASS_WEIGHTS} is of "
                f"{len(weights) - 1}: correct them, or leave them out"
            )
        return names
    if weights is None or not COCO_STUFF.is_file():
        return ()
    stuff = tuple(read_class_file(COCO_STUFF))
    return stuff if len(weights) == len(stuff) + 1 else ()


def _remember_texts(network: MaskFormer, clip: MaskClip, names: Sequence[str]) -> None:
    """Objectness is 1 - p(no object) over the names of stage 1's training: keep their texts."""
    if not names:
        logger.warning(
            "the names that stage 1 was trained with are not known: all its proposals get score 1; "
            "training_names in the configuration names them"
        )
        return
    with torch.no_grad():
        network.training_text_embeddings.copy_(clip.encode_names(names)[0])
