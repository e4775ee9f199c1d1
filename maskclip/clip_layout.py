"""CLIPs in the original layout: what the shapes of their weights tell (SPEC 7)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from maskclip.clip_weights import NOT_WEIGHTS, PROMPTS
from proposal.weight_shapes import Shapes, count, known, shapes_of, size

HEAD_WIDTH = 64  # of attention, in both towers
VOCABULARY = 49408  # of the tokenizer that comes with open_clip
# ViT-B/16's, where the weight that tells a size is missing, which is said when weights are compared
USUAL = {
    "embed_dim": 512,
    "image_size": 224,
    "patch_size": 16,
    "vision_layers": 12,
    "vision_width": 768,
    "vision_mlp_ratio": 4.0,
    "text_width": 512,
    "text_layers": 12,
    "text_mlp_ratio": 4.0,
    "context_length": 77,
}


def original_name(name: str) -> str:
    """What the original layout calls a weight of a MaskClip."""
    if name == "tower.prompts":
        return PROMPTS
    if name == "log_logit_scale":
        return "logit_scale"
    return name.removeprefix("tower.").removeprefix("text.")


def original_layout(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's layout with a text tower of its own (``text.``) -> the original one."""
    return {
        name.removeprefix("text."): tensor
        for name, tensor in state.items()
        if name not in NOT_WEIGHTS
    }


def clip_sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The weights of a CLIP in the original layout -> the sizes that they tell, by SPEC's names.

    ``embed_dim``, ``image_size``, ``patch_size``, ``vision_layers`` (a list: a ResNet tower),
    ``vision_width``, ``vision_mlp_ratio``, ``text_width``, ``text_layers``, ``text_mlp_ratio``,
    ``context_length``, ``mask_prompt_depth``. What a missing weight would tell is left out.

    Raises:
        ValueError: the image tower is of no kind that this layout has, or speaks other tokens.
    """
    shapes = shapes_of(state)
    tokens = shapes.get("token_embedding.weight", (VOCABULARY, 0))[0]
    if tokens != VOCABULARY:
        raise ValueError(
            f"the CLIP reads {tokens} kinds of tokens: the tokenizer here has {VOCABULARY}"
        )
    if "visual.layer1.0.conv1.weight" in shapes:
        vision = _resnet_sizes(shapes)
    elif "visual.conv1.weight" in shapes or "visual.class_embedding" in shapes:
        vision = _vit_sizes(shapes)
    else:
        if any(name.startswith("clip_adapter.") for name in shapes):
            raise ValueError(
                "these are the weights of a whole OVSeg: convert them with --from ovseg"
            )
        found = ", ".join(sorted(shapes)[:3]) or "nothing"
        raise ValueError(
            f"the CLIP is not in the original layout: expected visual.conv1.weight beside others, "
            f"got {found}; load it as <open_clip model>/<file> instead"
        )
    text = {
        "embed_dim": size(shapes, "text_projection", 1),
        "text_width": size(shapes, "ln_final.weight", 0),
        "text_layers": _layers(shapes, "transformer"),
        "text_mlp_ratio": _mlp_ratio(shapes, "transformer"),
        "context_length": size(shapes, "positional_embedding", 0),
    }
    return known(vision | text)


def open_clip_model(sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes by SPEC's names -> the open_clip configuration, the model of a ClipConfig."""
    sizes = {**USUAL, **sizes}
    heads = {
        tower: sizes.get(f"{tower}_heads") or max(1, sizes[f"{tower}_width"] // HEAD_WIDTH)
        for tower in ("vision", "text")
    }
    vision = {
        "image_size": sizes["image_size"],
        "layers": sizes["vision_layers"],
        "width": sizes["vision_width"],
    }
    if not isinstance(sizes["vision_layers"], list):
        vision["head_width"] = sizes["vision_width"] // heads["vision"]
        vision["patch_size"] = sizes["patch_size"]
        vision["mlp_ratio"] = sizes["vision_mlp_ratio"]
    return {
        "embed_dim": sizes["embed_dim"],
        "quick_gelu": sizes["quick_gelu"],
        "vision_cfg": vision,
        "text_cfg": {
            "context_length": sizes["context_length"],
            "vocab_size": VOCABULARY,
            "width": sizes["text_width"],
            "heads": heads["text"],
            "layers": sizes["text_layers"],
            "mlp_ratio": sizes["text_mlp_ratio"],
        },
    }


def _vit_sizes(shapes: Shapes) -> dict[str, Any]:
    patch = size(shapes, "visual.conv1.weight", 3)
    positions = size(shapes, "visual.positional_embedding", 0)
    grid = math.isqrt((positions or 2) - 1)
    return {
        "vision_width": size(shapes, "visual.class_embedding", 0),
        "vision_layers": _layers(shapes, "visual.transformer"),
        "vision_mlp_ratio": _mlp_ratio(shapes, "visual.transformer"),
        "patch_size": patch,
        "image_size": patch * grid if patch and positions else None,
        "mask_prompt_depth": size(shapes, PROMPTS, 0) or 0,
    }


def _resnet_sizes(shapes: Shapes) -> dict[str, Any]:
    positions = size(shapes, "visual.attnpool.positional_embedding", 0)
    return {
        "vision_width": size(shapes, "visual.layer1.0.conv1.weight", 0),
        "vision_layers": [
            count(shapes, rf"visual\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4)
        ],
        "image_size": 32 * math.isqrt(positions - 1) if positions else None,
        "mask_prompt_depth": 0,
    }


def _layers(shapes: Shapes, tower: str) -> int | None:
    return count(shapes, rf"{tower}\.resblocks\.(\d+)\.") or None


def _mlp_ratio(shapes: Shapes, tower: str) -> float | None:
    hidden, width = shapes.get(f"{tower}.resblocks.0.mlp.c_fc.weight", (0, 1))
    return hidden / width or None
