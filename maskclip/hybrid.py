"""Hybrid image towers: the feature map of a MobileNetV2 trunk becomes a transformer's tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import timm
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers import HybridEmbed
from timm.models import (
    VisionTransformer,
    build_model_with_cfg,
    generate_default_cfgs,
    is_model,
    register_model,
)
from torch import Tensor, nn

TRUNK = "mobilenetv2_100"
HEAD_WIDTH = 64  # channels of one attention head
NAME = re.compile(r"maskclip_nano_(\d+)_w(\d+)_d(\d+)_s(16|32)(_h)?")
default_cfgs: dict = {}  # timm looks for a model's settings here, in the module that registers it


@dataclass(frozen=True)
class HybridConfig:
    """The sizes of a hybrid tower, all of which its timm name spells out.

    Raises:
        ValueError: a size that the trunk or the attention heads cannot be divided by.
    """

    side: int = 192  # S, pixels of a crop
    width: int = 256  # E
    depth: int = 3  # transformer blocks
    stride: int = 32  # of the trunk: 32 gives (S / 32)^2 tokens, 16 four times as many
    head: bool = False  # tokens from the trunk's last 1x1 convolution (1,280 channels, not 320)

    def __post_init__(self) -> None:
        if self.stride not in (16, 32):
            raise ValueError(f"stride must be 16 or 32, got {self.stride}")
        if self.side < 32 or self.side % 32:
            raise ValueError(f"side must be a multiple of 32 pixels, got {self.side}")
        if self.width < HEAD_WIDTH or self.width % HEAD_WIDTH:
            raise ValueError(f"width must be a multiple of {HEAD_WIDTH}, got {self.width}")
        if self.depth < 1:
            raise ValueError(f"depth must be at least 1 block, got {self.depth}")

    @property
    def name(self) -> str:
        """The timm model name that stands for these sizes."""
        head = "_h" if self.head else ""
        return f"maskclip_nano_{self.side}_w{self.width}_d{self.depth}_s{self.stride}{head}"


def parse_hybrid(name: str) -> HybridConfig:
    """The sizes that a name like ``maskclip_nano_192_w256_d3_s32`` spells out."""
    match = NAME.fullmatch(name)
    if match is None:
        raise ValueError(
            f"{name!r} is not the name of a hybrid tower: write maskclip_nano_<side>_w<width>"
            "_d<depth>_s<16|32>, with _h at the end for tokens from the trunk's last convolution"
        )
    side, width, depth, stride = (int(text) for text in match.groups()[:4])
    return HybridConfig(side, width, depth, stride, head=match[5] is not None)


def is_hybrid(name: str) -> bool:
    """Whether a timm model name is one of ours."""
    return NAME.fullmatch(name) is not None


def register_hybrid(config: HybridConfig) -> str:
    """Make timm know a tower of these sizes, and return the name to ask timm for."""
    name = config.name
    if is_model(name):
        return name
    settings = {
        "url": "",
        "input_size": (3, config.side, config.side),
        "fixed_input_size": True,
        "num_classes": 0,
        "pool_size": None,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "first_conv": "patch_embed.backbone.conv_stem",
        "classifier": "head",
    }
    default_cfgs.update(generate_default_cfgs({name: settings}))

    def build(pretrained: bool = False, **options: object) -> VisionTransformer:
        return _build_hybrid(config, pretrained, **options)

    build.__name__ = name
    register_model(build)
    return name


def _build_hybrid(config: HybridConfig, pretrained: bool, **options: object) -> VisionTransformer:
    sizes = {
        "img_size": config.side,
        "patch_size": 1,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.width // HEAD_WIDTH,
        "num_classes": 0,
        "embed_layer": partial(HybridEmbed, backbone=build_trunk(config.stride, config.head)),
    }
    return build_model_with_cfg(VisionTransformer, config.name, pretrained, **(sizes | options))


def build_trunk(stride: int, head: bool) -> nn.Module:
    """The trunk of shared/weights: (N, 3, S, S) in [-1, 1] -> (N, F, S / stride, S / stride)."""
    settings = {"pad_type": "same", "pretrained": False, "output_stride": stride}
    if head:
        return timm.create_model(TRUNK, num_classes=0, global_pool="", **settings)
    return timm.create_model(TRUNK, features_only=True, out_indices=(4,), **settings)


def load_trunk(visual: nn.Module, path: str | Path) -> None:
    """Fill the trunk of a hybrid tower from a safetensors file in timm's MobileNetV2 names.

    The file's other parts (classifier, DeepLab heads) are left alone; every weight of the trunk
    must be there.

    Raises:
        FileNotFoundError, ValueError: as ``load_trunk_weights``.
    """
    load_trunk_weights(visual.trunk.patch_embed.backbone, path)


def load_trunk_weights(trunk: nn.Module, path: str | Path) -> None:
    """Fill a trunk from a safetensors file in timm's MobileNetV2 names.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, lacks a weight of the trunk, or has one of another shape.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no trunk weights at {path}: give a .safetensors file")
    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read as safetensors ({error})") from error
    weights = trunk.state_dict()
    for key, value in weights.items():
        if not key.endswith("num_batches_tracked"):
            weights[key] = _stored_like(value, stored, key, path)
    trunk.load_state_dict(weights)


def _stored_like(value: Tensor, stored: dict[str, Tensor], key: str, path: str | Path) -> Tensor:
    if key not in stored:
        raise ValueError(f"{path} lacks {key}, which the trunk of the tower needs")
    if stored[key].shape != value.shape:
        expected, got = tuple(value.shape), tuple(stored[key].shape)
        raise ValueError(f"{key} in {path} must be {expected}, got {got}")
    return stored[key].to(value.dtype)
