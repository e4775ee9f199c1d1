"""open_clip's text towers on no more context than their prompts need."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from open_clip.hf_model import ClsLastHiddenStatePooler, ClsPooler, HFTextEncoder, MeanPooler
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

PAD_BLIND_POOLERS = (MeanPooler, ClsPooler, ClsLastHiddenStatePooler)


def context_length(model: nn.Module, tokenizer: Callable) -> int:
    """How many tokens of a prompt are read; a HF tower leaves that to its tokenizer."""
    if isinstance(getattr(model, "text", None), HFTextEncoder):
        return tokenizer.context_length
    return model.context_length


def prompt_lengths(model: nn.Module, tokens: Tensor) -> Tensor:
    """(n, context) tokens -> (n,) how many of them the embedding of each prompt depends on."""
    text = getattr(model, "text", model)
    if isinstance(text, HFTextEncoder):
        if not isinstance(text.pooler, PAD_BLIND_POOLERS):
            return torch.full_like(tokens[:, 0], tokens.shape[1])
        positions = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
        return ((tokens != text.config.pad_token_id) * positions).amax(1).clamp(min=1)  # (n,)
    pooling = getattr(text, "text_pool_type", getattr(text, "pool_type", None))
    causal = getattr(text, "attn_mask", None) is not None
    if causal and getattr(text, "cls_emb", None) is None:
        if pooling == "argmax":
            return tokens.argmax(1) + 1
        if pooling == "eos":
            end = getattr(text, "text_eos_id", getattr(text, "eos_id", None))
            return (tokens == end).int().argmax(1) + 1
    return torch.full_like(tokens[:, 0], tokens.shape[1])


def encode_tokens(model: nn.Module, tokens: Tensor) -> Tensor:
    """(n, context or fewer) tokens -> (n, D) embeddings, not normalised.

    Fewer tokens than the context must still be all that ``prompt_lengths`` asks for.
    """
    text = getattr(model, "text", model)
    length = tokens.shape[1]
    if isinstance(text, HFTextEncoder) or length == model.context_length:
        embeddings = model.encode_text(tokens)
    elif isinstance(text, TextTransformer):
        embeddings = shortened(text, length)(tokens)
    else:
        embeddings = shortened(model, length).encode_text(tokens)
    return embeddings[0] if isinstance(embeddings, tuple) else embeddings  # (n, D)


def shortened(tower: nn.Module, length: int) -> nn.Module:
    """The same causal tower with a context of ``length``, sharing every weight.

    A shallow copy with its own tables: the tower itself is never touched, not even for a moment,
    so that threads may encode prompts of different lengths with it.
    """
    short = copy.copy(tower)
    short._parameters = dict(tower._parameters)
    short._parameters["positional_embedding"] = tower.positional_embedding[:length]
    short._buffers = dict(tower._buffers)
    short._buffers["attn_mask"] = tower.attn_mask[:length, :length]
    return short
