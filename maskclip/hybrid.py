"""Hybrid image towers: the feature map of a convolutional trunk becomes a transformer's tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

import timm
from timm.layers import HybridEmbed
from timm.models import (
    VisionTransformer,
    build_model_with_cfg,
    generate_default_cfgs,
    is_model,
    register_model,
)
from torch import nn

TRUNKS = {  # timm's networks by what a tower's name calls them
    "": "mobilenetv2_100",
    "lite0": "tf_efficientnet_lite0",
    "lite1": "tf_efficientnet_lite1",
    "lite2": "tf_efficientnet_lite2",
}
HEAD_WIDTH = 64  # channels of one attention head
NAME = re.compile(r"maskclip_nano_(\d+)_w(\d+)_d(\d+)_s(16|32)(_h)?(?:_(lite[012]))?")
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
    trunk: str = ""  # "" MobileNetV2 1.0; lite0, lite1, lite2: EfficientNet-Lite

    def __post_init__(self) -> None:
        if self.trunk not in TRUNKS:
            raise ValueError(f"trunk must be one of {sorted(TRUNKS)}, got {self.trunk!r}")
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
        trunk = f"_{self.trunk}" if self.trunk else ""
        return f"maskclip_nano_{self.side}_w{self.width}_d{self.depth}_s{self.stride}{head}{trunk}"


def parse_hybrid(name: str) -> HybridConfig:
    """The sizes that a name like ``maskclip_nano_192_w256_d3_s32`` spells out."""
    match = NAME.fullmatch(name)
    if match is None:
        raise ValueError(
            f"{name!r} is not the name of a hybrid tower: write maskclip_nano_<side>_w<width>"
            "_d<depth>_s<16|32>, then _h for tokens from the trunk's last convolution, then "
            "_lite0, _lite1 or _lite2 for another trunk than MobileNetV2"
        )
    side, width, depth, stride = (int(text) for text in match.groups()[:4])
    return HybridConfig(side, width, depth, stride, match[5] is not None, match[6] or "")


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
    trunk = build_trunk(config.stride, config.head, config.trunk)
    sizes = {
        "img_size": config.side,
        "patch_size": 1,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.width // HEAD_WIDTH,
        "num_classes": 0,
        "embed_layer": partial(HybridEmbed, backbone=trunk),
    }
    return build_model_with_cfg(VisionTransformer, config.name, pretrained, **(sizes | options))


def build_trunk(stride: int, head: bool, kind: str = "") -> nn.Module:
    """A trunk of TRUNKS: (N, 3, S, S) in [-1, 1] -> (N, F, S / stride, S / stride)."""
    settings = {"pad_type": "same", "pretrained": False, "output_stride": stride}
    if head:
        return timm.create_model(TRUNKS[kind], num_classes=0, global_pool="", **settings)
    return timm.create_model(TRUNKS[kind], features_only=True, out_indices=(4,), **settings)


def hybrid_trunk(visual: nn.Module) -> nn.Module:
    """The convolutional trunk of a hybrid tower.

    Raises:
        ValueError: the tower is of another kind.
    """
    patches = getattr(getattr(visual, "trunk", None), "patch_embed", None)
    if not isinstance(patches, HybridEmbed):
        raise ValueError(
            f"only hybrid towers have a convolutional trunk, got a {type(visual).__name__}"
        )
    return patches.backbone
