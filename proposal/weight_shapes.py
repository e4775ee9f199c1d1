"""What the shapes of weights tell about the network that they belong to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Names with tensors -> names with shapes."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def size(shapes: Shapes, name: str, axis: int) -> int | None:
    """The length of an axis of a weight; None where there is none."""
    shape = shapes.get(name, ())
    return shape[axis] if axis < len(shape) else None


def first_shape(shapes: Shapes, pattern: str) -> tuple[int, ...]:
    """The shape of the first weight whose whole name fits, () if there is none."""
    return next((shape for name, shape in shapes.items() if re.fullmatch(pattern, name)), ())


def count(shapes: Shapes, pattern: str) -> int:
    """One more than the largest number at the group of the pattern that names begin with."""
    fits = map(re.compile(pattern).match, shapes)
    return max((int(fit[1]) + 1 for fit in fits if fit), default=0)


def known(sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Without what a missing weight would have told."""
    return {name: value for name, value in sizes.items() if value is not None}


def settle(told: Mapping[str, Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What the weights tell, completed by what is given.

    Raises:
        ValueError: they contradict each other.
    """
    for name, value in told.items():
        other = given.get(name, value)
        if (list(other) if isinstance(other, list | tuple) else other) != value:
            raise ValueError(
                f"{where}{name} is {other}, but by their shapes the weights have {value}: correct "
                "the configuration, or leave it out"
            )
    return {**given, **told}
