"""Proposal networks as the published checkpoints hold them (SPEC 7)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from proposal.backbones import BLOCKS_OF_DEPTH
from proposal.checkpoint_files import load_strictly
from proposal.configuration import config_from_dict
from proposal.maskformer import MaskFormer, MaskFormerConfig
from proposal.weight_shapes import Shapes, count, first_shape, known, settle, shapes_of, size

HEAD = "sem_seg_head.predictor."
NO_OBJECT = "clip_adapter.non_object_embedding"
CLASS_WEIGHTS = "criterion.empty_weight"  # of the loss: one per training name and one for no object
# Our name's beginning, and theirs; the first that fits counts.
PREFIXES = {
    "backbone.body.": "backbone.",
    "pixel_decoder.": "sem_seg_head.pixel_decoder.",
    "encoder.": f"{HEAD}transformer.encoder.",
    "decoder.": f"{HEAD}transformer.decoder.",
    "no_object": NO_OBJECT,
    "": HEAD,
}
OURS_ALONE = "training_text_embeddings"  # published checkpoints keep none
DERIVED = "relative_position_index"  # of Swin, which follows from the window: may be left out
UNREAD = re.compile(r"criterion\..*|.*\.num_batches_tracked")  # the loss; frozen norms do not count


def published_name(name: str) -> str:
    """What the published checkpoints call a weight of ours."""
    ours, theirs = next(pair for pair in PREFIXES.items() if name.startswith(pair[0]))
    return theirs + name.removeprefix(ours)


def read_network(state: Mapping[str, Tensor], given: Mapping[str, Any], where: str) -> MaskFormer:
    """The network whose sizes the weights and ``given`` tell; random, ``fill_network`` loads it.

    ``given`` holds fields of MaskFormerConfig, ``backbone`` as a mapping, as ``where`` states them.

    Raises:
        ValueError: there is no backbone we know, or ``given`` contradicts the weights.
    """
    shapes = shapes_of(state)
    trunk = settle(_backbone_sizes(shapes), given.get("backbone", {}), f"{where}: backbone.")
    rest = {name: value for name, value in given.items() if name != "backbone"}
    sizes = settle(_head_sizes(shapes), rest, f"{where}: ")
    values = {**sizes, "backbone": trunk, "classifier": "text"}
    return MaskFormer(config_from_dict(MaskFormerConfig, values, where)).eval()


def expected_weights(network: MaskFormer) -> dict[str, tuple[int, ...]]:
    """Published name -> shape of everything that a checkpoint of this network holds."""
    own = network.state_dict()
    shapes = {published_name(k): tuple(v.shape) for k, v in own.items() if k != OURS_ALONE}
    return {**shapes, NO_OBJECT: (1, *shapes[NO_OBJECT])}


def check_weights(expected: Shapes, state: Mapping[str, Tensor], where: str) -> None:
    """Is everything there that is expected, and nothing else?

    Raises:
        ValueError: weights are missing, unexpected or of another shape; each one is named.
    """
    missing = [name for name in expected if name not in state and not name.endswith(DERIVED)]
    unexpected = [name for name in state if name not in expected and not UNREAD.fullmatch(name)]
    if missing or unexpected:
        parts = [
            f"{kind} {', '.join(names)}"
            for kind, names in (("misses", missing), ("has the unexpected", unexpected))
            if names
        ]
        raise ValueError(
            f"{where} is no published checkpoint of this kind: it {'; it '.join(parts)}"
        )
    wrong = [
        f"{name} must be {shape}, got {tuple(state[name].shape)}"
        for name, shape in expected.items()
        if name in state and state[name].numel() != math.prod(shape)
    ]
    if wrong:
        raise ValueError(f"{where} does not fit the sizes of its other weights: {'; '.join(wrong)}")


def fill_network(network: MaskFormer, state: Mapping[str, Tensor], where: str) -> None:
    """Copy a published checkpoint's weights into the network that they fit."""
    weights = {
        name: state.get(published_name(name), value).reshape(value.shape)
        for name, value in network.state_dict().items()
    }
    load_strictly(network, weights, where)


def _backbone_sizes(shapes: Shapes) -> dict[str, Any]:
    trunk = {
        name.removeprefix("backbone."): shape
        for name, shape in shapes.items()
        if name.startswith("backbone.")
    }
    if any(name.startswith("patch_embed.") for name in trunk):
        return known({"type": "swin"} | _swin_sizes(trunk))
    if any(name.startswith("stem.") for name in trunk):
        return known({"type": "resnet-deeplab"} | _resnet_sizes(trunk))
    raise ValueError(
        "the checkpoint holds no backbone that is known here: expected backbone.stem.* of a "
        f"DeepLab ResNet or backbone.patch_embed.* of a Swin, got {sorted(trunk)[:3] or 'none'}"
    )


def _swin_sizes(trunk: Shapes) -> dict[str, Any]:
    levels = count(trunk, r"layers\.(\d+)\.")
    tables = [
        first_shape(trunk, rf"layers\.{level}\.blocks\.\d+\.attn\.relative_position_bias_table")
        for level in range(levels)
    ]
    rows = next((table[0] for table in tables if table), 0)  # (2 * window - 1)^2
    return {
        "embed_dim": size(trunk, "patch_embed.proj.weight", 0),
        "depths": [count(trunk, rf"layers\.{level}\.blocks\.(\d+)\.") for level in range(levels)],
        "num_heads": [table[1] for table in tables] if all(tables) else None,
        "window_size": (math.isqrt(rows) + 1) // 2 or None,
    }


def _resnet_sizes(trunk: Shapes) -> dict[str, Any]:
    stem = trunk.get("stem.conv1.weight", (0, 0, 3, 3))
    if stem[-1] != 3:
        raise ValueError(
            f"the checkpoint's ResNet begins with a {stem[-1]} x {stem[-1]} convolution: only the "
            "DeepLab stem of three 3 x 3 convolutions is known here"
        )
    blocks = tuple(count(trunk, rf"res{level}\.(\d+)\.") for level in (2, 3, 4, 5))
    depths = [depth for depth, known in BLOCKS_OF_DEPTH.items() if known == blocks]
    if not depths:
        known = ", ".join(f"{depth}: {each}" for depth, each in BLOCKS_OF_DEPTH.items())
        raise ValueError(f"the checkpoint's ResNet has {blocks} blocks: known are {known}")
    return {
        "depth": depths[0],
        "stem_out_channels": size(trunk, "stem.conv3.weight", 0),
        "res2_out_channels": size(trunk, "res2.0.conv3.weight", 0),
        "width_per_group": size(trunk, "res2.0.conv1.weight", 0),
    }


def _head_sizes(shapes: Shapes) -> dict[str, Any]:
    encoder, decoder = (f"{HEAD}transformer.{part}.layers" for part in ("encoder", "decoder"))
    pixels = "sem_seg_head.pixel_decoder."
    projection = shapes.get(f"{HEAD}input_proj.weight", (0, 1))
    return known(
        {
            "num_queries": size(shapes, f"{HEAD}query_embed.weight", 0),
            "hidden_dim": size(shapes, f"{HEAD}query_embed.weight", 1),
            "dim_feedforward": size(shapes, f"{decoder}.0.linear1.weight", 0),
            "dec_layers": count(shapes, rf"{decoder}\.(\d+)\.") or None,
            "enc_layers": count(shapes, rf"{encoder}\.(\d+)\."),
            "enforce_input_proj": projection[0] == projection[1] or None,
            "class_hidden_dim": size(shapes, f"{HEAD}class_embed.layers.0.weight", 0),
            "embed_dim": size(shapes, f"{HEAD}class_embed.layers.1.weight", 0),
            "mask_dim": size(shapes, f"{pixels}mask_features.weight", 0),
            "conv_dim": size(shapes, f"{pixels}layer_1.weight", 0),
        }
    )
