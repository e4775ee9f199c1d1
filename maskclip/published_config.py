"""What the weights of a published checkpoint do not tell."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from proposal.configuration import config_from_dict, config_to_dict


@dataclass(frozen=True)
class PublishedBackbone:
    """Fields of BackboneConfig; None is what the weights say."""

    type: str | None = None
    depth: int | None = None
    stem_out_channels: int | None = None
    res2_out_channels: int | None = None
    width_per_group: int | None = None
    res5_multi_grid: tuple[int, ...] | None = None
    stride_in_1x1: bool | None = None
    freeze_at: int | None = None
    embed_dim: int | None = None
    depths: tuple[int, ...] | None = None
    num_heads: tuple[int, ...] | None = None
    window_size: int | None = None
    drop_path_rate: float | None = None


@dataclass(frozen=True)
class PublishedClip:
    """Sizes of both towers; None is what the weights say, heads: width / 64."""

    embed_dim: int | None = None
    image_size: int | None = None
    patch_size: int | None = None
    vision_layers: Any = None  # a number, or the blocks of a ResNet's four stages
    vision_width: int | None = None
    vision_heads: int | None = None
    text_layers: int | None = None
    text_width: int | None = None
    text_heads: int | None = None
    context_length: int | None = None
    quick_gelu: bool = True


@dataclass(frozen=True)
class PublishedConfig:
    """The JSON beside a published checkpoint; None is what the weights say, else published values.

    Raises:
        ValueError: a value outside its range.
    """

    variant: str = ""  # a name, nothing more
    class_names: tuple[str, ...] = ()  # that were asked for in the evaluation
    training_names: tuple[str, ...] | None = None  # of stage 1; None: COCO-Stuff's where 171 fit
    ensemble_weight: float = 0.7  # of CLIP in the fusion; 0 = CLIP alone
    mask_threshold: float | None = None  # None: 0.4 of a Swin, 0.5 of a ResNet
    mask_prompt_depth: int | None = None
    mask_prompt_forward: bool | None = None  # None: where there are mask prompts
    templates: str = "vild"
    short_side: int | None = None  # None: 640 of a Swin, 512 of a ResNet
    max_size: int | None = None  # None: four times the short side
    size_divisibility: int = 32
    pixel_mean: tuple[float, ...] | None = None
    pixel_std: tuple[float, ...] | None = None
    backbone: PublishedBackbone = field(default_factory=PublishedBackbone)
    hidden_dim: int | None = None
    dim_feedforward: int | None = None
    conv_dim: int | None = None
    mask_dim: int | None = None
    num_queries: int | None = None
    nheads: int = 8
    enc_layers: int | None = None
    dec_layers: int | None = None
    clip: PublishedClip = field(default_factory=PublishedClip)

    def __post_init__(self) -> None:
        if not 0 <= self.ensemble_weight <= 1:
            raise ValueError(f"ensemble_weight must be in [0, 1], got {self.ensemble_weight}")
        for name in ("short_side", "max_size", "size_divisibility", "nheads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")

    @property
    def fusion_weight(self) -> float:
        """Our w: published configurations say 0 for CLIP alone, which is our 1."""
        return self.ensemble_weight or 1.0


def given(config: Any) -> dict[str, Any]:
    """What a configuration states, as plain values."""
    values = {each.name: getattr(config, each.name) for each in fields(config)}
    return {name: config_to_dict(value) for name, value in values.items() if value is not None}


_R101C = {
    "variant": "ovseg-r101c-vitb16",
    "mask_threshold": 0.5,
    "short_side": 512,
    "max_size": 2048,
    "backbone": {
        "type": "resnet-deeplab",
        "depth": 101,
        "stem_out_channels": 128,
        "res2_out_channels": 256,
        "width_per_group": 64,
        "res5_multi_grid": [1, 2, 4],
    },
    "clip": {
        "embed_dim": 512,
        "image_size": 224,
        "patch_size": 16,
        "vision_layers": 12,
        "vision_width": 768,
        "text_layers": 12,
        "text_width": 512,
        "text_heads": 8,
    },
}
_SWINB = {
    "variant": "ovseg-swinb-vitl14",
    "mask_threshold": 0.4,
    "short_side": 640,
    "max_size": 2560,
    "backbone": {
        "type": "swin",
        "embed_dim": 128,
        "depths": [2, 2, 18, 2],
        "num_heads": [4, 8, 16, 32],
        "window_size": 12,
    },
    "clip": {
        "embed_dim": 768,
        "image_size": 224,
        "patch_size": 14,
        "vision_layers": 24,
        "vision_width": 1024,
        "text_layers": 12,
        "text_width": 768,
        "text_heads": 12,
    },
}
_BOTH = {
    "ensemble_weight": 0.7,
    "mask_prompt_depth": 3,
    "mask_prompt_forward": True,
    "hidden_dim": 256,
    "dim_feedforward": 2048,
    "conv_dim": 256,
    "mask_dim": 256,
    "num_queries": 100,
    "nheads": 8,
    "enc_layers": 0,
    "dec_layers": 6,
}
PRESETS = {preset["variant"]: {**_BOTH, **preset} for preset in (_R101C, _SWINB)}


def read_published_config(source: str | Path | None) -> PublishedConfig:
    """A preset's name, a JSON file, or None: everything as the weights say or as published.

    Raises:
        FileNotFoundError: neither a preset nor a file.
        ValueError: the file is no JSON, a key is unknown or a value does not fit.
    """
    if source is None:
        return PublishedConfig()
    if str(source) in PRESETS:
        return config_from_dict(PublishedConfig, PRESETS[str(source)], str(source))
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no configuration {source}: give a JSON file or one of {', '.join(PRESETS)}"
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from error
    try:
        return config_from_dict(PublishedConfig, values, str(path))
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: {error}") from error
