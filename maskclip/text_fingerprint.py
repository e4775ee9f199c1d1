"""What tells one text tower from another: weights, structure, tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

NOT_TEXT = ("visual", "logit_scale", "logit_bias", "text_decoder")
NOT_SETTINGS = ("training", "name_or_path")  # neither says what a module computes
PROBE = "A photo of 2½ café-tables, naïve 猫 🐈 'n' dogs."  # tokenizers differ on such things


def fingerprint_text(model: nn.Module, tokenizer: Callable) -> str:
    """SHA-256 of whatever an open_clip model's text embeddings depend on."""
    tensors = list(_text_tensors(model))
    with ThreadPoolExecutor(2) as pool:  # hashlib lets go of the lock: two cores, half the time
        digests = list(pool.map(_digest_tensor, (tensor for _, tensor in tensors)))
    digest = hashlib.sha256()
    for (name, tensor), content in zip(tensors, digests, strict=True):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + content)
    for name, module in model.named_modules():
        if _belongs_to_text(name):
            digest.update(f"{name} {_describe(module)}".encode())
    tokens = tokenizer([PROBE])  # (1, context)
    digest.update(f"{tuple(tokens.shape)}".encode() + _digest_tensor(tokens))
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


def _digest_tensor(tensor: Tensor) -> bytes:
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.sha256(content).digest()
