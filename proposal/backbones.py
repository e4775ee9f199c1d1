"""Convolutional and Swin trunks that turn an image into feature maps at four strides."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import timm
from torch import Tensor, nn

from proposal.inference_copy import InferenceCopy

BLOCKS_OF_DEPTH = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}  # of ResNets


@dataclass(frozen=True)
class BackboneConfig:
    """Which trunk, and how large; the defaults of each kind are the published sizes."""

    type: str = "resnet-deeplab"  # "resnet-deeplab", "swin" or "timm:<name>"
    # resnet-deeplab
    depth: int = 101  # 50, 101 or 152
    stem_out_channels: int = 128
    res2_out_channels: int = 256
    width_per_group: int = 64
    res5_multi_grid: tuple[int, ...] = (1, 2, 4)  # dilations of the three blocks of res5
    stride_in_1x1: bool = False
    freeze_at: int = 2  # R-101c keeps the stem (1) and res2 (2) as they were pretrained
    # swin
    embed_dim: int = 128
    depths: tuple[int, ...] = (2, 2, 18, 2)
    num_heads: tuple[int, ...] = (4, 8, 16, 32)
    window_size: int = 12
    drop_path_rate: float = 0.3  # the published one; detectron2's own default is 0.2
    # timm
    pad_type: str = ""  # "same" for trunks converted from TensorFlow; "" = the network's own
    output_stride: int = 32  # of the last map: 32, or 16 as DeepLab trunks were trained (slower)


class Backbone(nn.Module):
    """A trunk whose four maps come as a tuple, highest resolution first.

    Batch norms keep the statistics of the pretraining, also in training mode: batches of a few
    photos have none worth learning, and the trunks of shared/weights have theirs folded away.
    """

    def __init__(self, body: nn.Module, channels: tuple[int, ...], names: tuple[str, ...]) -> None:
        super().__init__()
        self.body = body
        self.channels = channels
        self._inference = InferenceCopy()
        self.names = names  # detectron2's names of the maps; empty where the maps come as a list

    def train(self, mode: bool = True) -> Backbone:
        """As always, but for the batch norms, which stay in evaluation mode."""
        super().train(mode)
        for module in self.body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) images -> four maps (B, channels[i], h, w) at strides 4, 8, 16, 32."""
        maps = self._inference.of(self.body)(images)
        return tuple(maps[name] for name in self.names) if self.names else tuple(maps)


def build_backbone(config: BackboneConfig) -> Backbone:
    """The trunk that a config describes, with random weights.

    Raises:
        ValueError: the type is none of ours, or timm's network has no maps at these strides.
        RuntimeError: the type needs detectron2, which is not installed.
    """
    if config.type.startswith("timm:"):
        return build_timm(config)
    if config.type not in BUILDERS:
        known = ", ".join([*BUILDERS, "timm:<name>"])
        raise ValueError(f"backbone type must be one of {known}, got {config.type!r}")
    try:
        with warnings.catch_warnings():  # detectron2 calls what PyTorch and timm are giving up
            warnings.simplefilter("ignore")
            return BUILDERS[config.type](config)
    except ModuleNotFoundError as missing:
        message = f"backbone {config.type} needs {missing.name}, which is missing: run make setup"
        raise RuntimeError(message) from missing


def build_timm(config: BackboneConfig) -> Backbone:
    """Any convolutional network of timm's with maps at strides 4, 8, 16 and 32."""
    name = config.type.removeprefix("timm:")
    options = {"pad_type": config.pad_type} if config.pad_type else {}
    if config.output_stride != 32:
        options["output_stride"] = config.output_stride
    if not timm.is_model(name):
        raise ValueError(f"timm has no network {name!r}: see timm.list_models() for those it has")
    body = timm.create_model(
        name, pretrained=False, features_only=True, out_indices=(-4, -3, -2, -1), **options
    )
    strides = tuple(body.feature_info.reduction())
    expected = tuple(min(stride, config.output_stride) for stride in (4, 8, 16, 32))
    if strides != expected:
        raise ValueError(
            f"backbone {config.type} must have maps at strides {expected}, got {strides}: "
            "choose a convolutional network"
        )
    return Backbone(body, tuple(body.feature_info.channels()), ())


def build_swin(config: BackboneConfig) -> Backbone:
    """detectron2's Swin, whose parameter names are those of the published checkpoints.

    What differs from the published code: the maps are called p0 to p3 (published: res2 to res5),
    and the drop path is 0.2 unless one says 0.3. Like there, each map has its own LayerNorm
    (norm0 to norm3), and relative_position_index is a buffer that checkpoints hold.
    """
    from detectron2.modeling.backbone.swin import SwinTransformer

    body = SwinTransformer(
        embed_dim=config.embed_dim,
        depths=list(config.depths),
        num_heads=list(config.num_heads),
        window_size=config.window_size,
        drop_path_rate=config.drop_path_rate,
    )
    channels = tuple(config.embed_dim * 2**level for level in range(4))
    return Backbone(body, channels, ("p0", "p1", "p2", "p3"))


def build_resnet_deeplab(config: BackboneConfig) -> Backbone:
    """detectron2's DeepLab-style ResNet with frozen batch norms, without output dilation."""
    from detectron2.modeling.backbone.resnet import BottleneckBlock, ResNet
    from detectron2.projects.deeplab.resnet import DeepLabStem

    if config.depth not in BLOCKS_OF_DEPTH:
        raise ValueError(f"depth must be one of {list(BLOCKS_OF_DEPTH)}, got {config.depth}")
    stages = []
    channels = [config.stem_out_channels]
    for level, blocks in enumerate(BLOCKS_OF_DEPTH[config.depth]):
        stage = ResNet.make_stage(
            BottleneckBlock,
            blocks,
            in_channels=channels[-1],
            out_channels=config.res2_out_channels * 2**level,
            bottleneck_channels=config.width_per_group * 2**level,
            stride_per_block=[1 if level == 0 else 2] + [1] * (blocks - 1),
            dilation_per_block=config.res5_multi_grid if level == 3 else [1] * blocks,
            stride_in_1x1=config.stride_in_1x1,
            norm="FrozenBN",
        )
        stages.append(stage)
        channels.append(config.res2_out_channels * 2**level)
    names = ("res2", "res3", "res4", "res5")
    stem = DeepLabStem(out_channels=config.stem_out_channels, norm="FrozenBN")
    body = ResNet(stem, stages, out_features=list(names), freeze_at=config.freeze_at)
    return Backbone(body, tuple(channels[1:]), names)


BUILDERS: dict[str, Callable[[BackboneConfig], Backbone]] = {
    "resnet-deeplab": build_resnet_deeplab,
    "swin": build_swin,
}
