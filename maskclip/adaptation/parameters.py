"""Which weights a training changes, and how fast each of them."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn
from torch.optim import AdamW

from maskclip.adaptation.config import TrainConfig
from maskclip.clip import MaskClip

TRUNK = "tower.visual.trunk.patch_embed.backbone."  # of a hybrid tower
STEM = ("conv_stem.", "bn1.")  # what is before the trunk's first stage
PROMPTS = ("tower.prompts", "pixel_prompt.pattern", "text_context.tokens")
CONTEXT = ("tower.context.", "photo_context.")  # of a CLIP that reads whole photos, too
# Tables and single vectors, whatever their shape: as gains and biases, they do not decay
EMBEDDINGS = (
    *("class_embedding", "positional_embedding", "cls_token", "reg_token", "pos_embed"),
    *("relative_position_bias_table", "gamma", "latent", *PROMPTS),
)


def build_optimizer(clip: MaskClip, config: TrainConfig) -> AdamW:
    """AdamW over what the mode trains; the rest is frozen.

    Raises:
        ValueError: the mode trains prompts and there are none.
    """
    own = dict(clip.named_parameters())
    if config.mode != "ft" and not any(name in own for name in PROMPTS):
        raise ValueError(
            f"train.mode {config.mode!r} trains prompts, of which there are none: set "
            "clip.prompt_depth, clip.pixel_prompt or clip.text_context"
        )
    groups: dict[tuple, dict] = {}
    for name, parameter in own.items():
        parameter.requires_grad_(_is_trained(name, config))
        if not parameter.requires_grad:
            continue
        rate = _learning_rate(name, config)
        decay = config.weight_decay if _decays(name, parameter) else 0.0
        group = groups.setdefault((rate, decay), {"params": [], "lr": rate, "weight_decay": decay})
        group["params"].append(parameter)
    return AdamW(list(groups.values()), betas=config.betas, eps=config.eps)


def _is_trained(name: str, config: TrainConfig) -> bool:
    if name == "log_logit_scale":
        return not config.logit_scale
    if name in PROMPTS:
        return config.mode != "ft"
    if config.mode == "mpt" or not name.startswith("tower."):
        return False  # the text tower is locked
    if not name.startswith(TRUNK):
        return True
    return not config.freeze_trunk and not _is_early(name.removeprefix(TRUNK), config.freeze_stages)


def _is_early(name: str, stages: int) -> bool:
    """Whether a weight of a trunk (timm's names) lies before its stage number ``stages``."""
    if not stages or name.startswith(STEM):
        return bool(stages)
    kind, stage, *_ = name.split(".")
    return kind == "blocks" and int(stage) < stages


def _learning_rate(name: str, config: TrainConfig) -> float:
    if name in PROMPTS and config.mode == "joint" and config.prompt_learning_rate:
        return config.prompt_learning_rate
    if name.startswith(TRUNK):
        return config.learning_rate * config.trunk_factor
    return config.learning_rate


def _decays(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim >= 2 and not name.endswith(EMBEDDINGS)


def schedule_factor(config: TrainConfig) -> Callable[[int], float]:
    """The learning rate's factor at a step: a linear warm-up, then half a cosine down to 0."""

    def factor(step: int) -> float:
        if step < config.warmup_steps:
            return (step + 1) / (config.warmup_steps + 1)
        left = max(1, config.steps - config.warmup_steps)
        progress = min(1.0, (step - config.warmup_steps) / left)
        return 0.5 * (1 + math.cos(math.pi * progress))

    return factor
