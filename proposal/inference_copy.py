"""Convolutional networks as inference runs them: without batch norms of their own."""

from __future__ import annotations

import copy
from itertools import chain, pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class InferenceCopy:
    """Keeps a copy of a network whose batch norms are parts of the convolutions before them.

    A batch norm that is computed on its own takes a third of the time of a MobileNet on a CPU. The
    network stays as it is: its weights keep their names, and gradients flow through it. The copy
    is made when it is first asked for, and again after the weights have changed or moved.
    """

    def __init__(self) -> None:
        self._copy: nn.Module | None = None
        self._made_of: tuple = ()

    def of(self, network: nn.Module) -> nn.Module:
        """What to call: the copy, or the network where gradients or batch statistics are taken.

        A network without batch norms is not copied.
        """
        if torch.is_grad_enabled():
            return network
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        if not norms or any(norm.training for norm in norms):
            return network
        made_of = id(network), *map(_state, chain(network.parameters(), network.buffers()))
        if self._copy is None or made_of != self._made_of:
            self._copy, self._made_of = fold_batch_norms(network), made_of
        return self._copy


def _state(weight: Tensor) -> tuple[int, int]:
    """What differs after a weight was moved or written to."""
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode, without gradients: conv(x) * a + b is a convolution, too.

    A batch norm is folded where it comes right behind a convolution among a module's children, as
    it does in timm's MobileNets and EfficientNets; the activation that timm's own hold stays.
    """
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    for parent in list(folded.modules()):
        for (name, conv), (norm_name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and _follows(norm, conv):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm).requires_grad_(False))
                setattr(parent, norm_name, getattr(norm, "act", nn.Identity()))
    return folded


def _follows(norm: nn.Module, conv: nn.Conv2d) -> bool:
    same_size = isinstance(norm, nn.BatchNorm2d) and norm.num_features == conv.out_channels
    return same_size and norm.track_running_stats
