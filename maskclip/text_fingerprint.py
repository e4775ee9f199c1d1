"""What tells one text tower from another: weights, structure, tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

NOT_TEXT = ("visual", "logit_scale", "logit_bias", "text_decoder")
NOT_SETTINGS = ("training", "name_or_path")  # neither says what a module computes
PIECE_BYTES = 4 << 20  # hashed at once, so that the work is evenly shared
WORKERS = 4
PROBE = "A photo of 2½ café-tables, naïve 猫 🐈 'n' dogs."  # tokenizers differ on such things


def fingerprint_text(model: nn.Module, tokenizer: Callable) -> str:
    """SHA-256 of whatever an open_clip model's text embeddings depend on."""
    digest = hashlib.sha256()
    pieces = []
    for name, tensor in _text_tensors(model):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        pieces += _bytes(tensor).split(PIECE_BYTES)
    with ThreadPoolExecutor(WORKERS) as pool:  # hashlib lets other threads run meanwhile
        for content in pool.map(lambda piece: hashlib.sha256(piece.numpy()).digest(), pieces):
            digest.update(content)
    for name, module in model.named_modules():
        if _belongs_to_text(name):
            digest.update(f"{name} {_describe(module)}".encode())
    tokens = tokenizer([PROBE])  # (1, context)
    digest.update(f"{tuple(tokens.shape)}".encode() + _bytes(tokens).numpy().tobytes())
    return digest.hexdigest()


def weights_stamp(model: nn.Module) -> tuple:
    """Changes whenever the text tower's weights were replaced or written to; takes microseconds."""
    return tuple(
        (tensor.data_ptr(), None if tensor.is_inference() else tensor._version)
        for _, tensor in _text_tensors(model)
    )


def _text_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if _belongs_to_text(name):
            yield name, tensor


def _belongs_to_text(name: str) -> bool:
    return name.split(".")[0] not in NOT_TEXT


def _describe(module: nn.Module) -> str:
    """Class and settings: heads, activation, epsilon … which the weights do not show."""
    settings = {
        key: getattr(value, "__qualname__", type(value).__qualname__) if callable(value) else value
        for key, value in vars(module).items()
        if callable(value) or isinstance(value, bool | int | float | str)
        if not key.startswith("_") and key not in NOT_SETTINGS
    }
    return f"{type(module).__qualname__} {sorted(settings.items())}"


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
