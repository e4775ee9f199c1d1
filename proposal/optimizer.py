"""AdamW with a polynomial decay, as MaskFormer is trained."""

from __future__ import annotations

import logging
from collections.abc import Callable

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from proposal.training_config import TrainConfig

logger = logging.getLogger(__name__)
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d, nn.Embedding)
TABLES = ("relative_position_bias_table", "absolute_pos_embed", "no_object")  # embeddings, too


def freeze(network: nn.Module, frozen: tuple[str, ...], only: tuple[str, ...] = ()) -> None:
    """Take the parameters whose names begin as ``frozen`` says, or not as ``only``, out.

    Raises:
        ValueError: a prefix fits no parameter, or none is left.
    """
    names = [name for name, _ in network.named_parameters()]
    for setting, prefixes in (("frozen", frozen), ("only", only)):
        for prefix in prefixes:
            if not any(name.startswith(prefix) for name in names):
                raise ValueError(
                    f"train.{setting} names {prefix!r}, with which no parameter begins"
                )
    for name, parameter in network.named_parameters():
        if name.startswith(frozen) or (only and not name.startswith(only)):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ValueError("train.frozen and train.only leave no parameter to train")


def build_optimizer(network: nn.Module, config: TrainConfig) -> Optimizer:
    """AdamW whose groups differ in learning rate (backbone) and decay (norms, embeddings)."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for module_name, module in network.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            of_backbone = f"{module_name}.".startswith("backbone.")
            lr = config.lr * (config.backbone_lr_factor if of_backbone else 1.0)
            plain = not isinstance(module, NORMS) and name not in TABLES
            decay = config.weight_decay if plain else 0.0
            groups.setdefault((lr, decay), []).append(parameter)
    trained = sum(p.numel() for group in groups.values() for p in group)
    logger.info("%.2f M parameters are trained", trained / 1e6)
    return AdamW(
        [{"params": p, "lr": lr, "weight_decay": decay} for (lr, decay), p in groups.items()]
    )


def build_schedule(optimizer: Optimizer, config: TrainConfig) -> LambdaLR:
    """Linear warm-up, then (1 - progress) ** power."""
    return LambdaLR(optimizer, schedule_factor(config))


def schedule_factor(config: TrainConfig) -> Callable[[int], float]:
    """The learning rate's factor at an iteration."""

    def factor(iteration: int) -> float:
        decay = max(0.0, 1 - iteration / config.iterations) ** config.poly_power
        if iteration >= config.warmup_iterations:
            return decay
        share = iteration / config.warmup_iterations
        return decay * (config.warmup_factor * (1 - share) + share)

    return factor
