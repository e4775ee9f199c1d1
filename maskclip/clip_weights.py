"""Files of CLIP weights, read without executing anything in them."""

from __future__ import annotations

from pathlib import Path

import torch
from open_clip.convert import convert_state_dict
from open_clip.model import resize_pos_embed, resize_text_pos_embed
from torch import Tensor, nn

from maskclip.torchscript_weights import is_torchscript, read_torchscript
from proposal.checkpoint_files import load_strictly
from proposal.weight_files import read_weights

PROMPTS = "visual.mask_embedding"  # what a mask-adapted CLIP has beside a plain one
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")  # numbers in OpenAI's files
_BOTH_TOWERS = ("visual.", "logit_scale", "logit_bias", "text.")


def read_clip_weights(path: Path) -> dict[str, Tensor]:
    """A .safetensors, .pt, .pth or .bin file, or OpenAI's TorchScript archive -> its weights.

    Raises:
        ValueError: the file is damaged, holds code, or holds no weights.
    """
    return read_torchscript(path) if is_torchscript(path) else read_weights(path)


def fill_clip(model: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Copy weights into an open_clip CustomTextCLIP, from any layout that open_clip knows.

    Position embeddings of another grid are interpolated as by open_clip; the decoder of a CoCa is
    left out.

    Raises:
        ValueError: weights are missing, unexpected or of the wrong shape; they are named.
    """
    state = convert_state_dict(model, _custom_text(state))
    kept = {}
    for key, value in state.items():
        if key.startswith("text_decoder.") or key.endswith("embeddings.position_ids"):
            continue
        kept[key] = value.reshape(model.logit_scale.shape) if key.startswith("logit_") else value
    if model.logit_bias is not None:  # a plain CLIP's weights for a SigLIP-like model
        kept.setdefault("logit_bias", torch.zeros_like(model.logit_bias))
    resize_pos_embed(kept, model)
    if "text.positional_embedding" in kept and hasattr(model.text, "positional_embedding"):
        resize_text_pos_embed(kept, model)
    load_strictly(model, kept, where)


def _custom_text(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """OpenAI's layout has the text tower's weights without a prefix."""
    if "token_embedding.weight" not in state:
        return state
    return {
        key if key.startswith(_BOTH_TOWERS) or key == PROMPTS else f"text.{key}": value
        for key, value in state.items()
        if key not in NOT_WEIGHTS
    }
