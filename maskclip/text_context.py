"""Learned tokens before a name, in place of words (CoOp, arXiv 2109.01134)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from open_clip.hf_model import HFTextEncoder
from torch import Tensor, nn

from maskclip.templates import SLOT

PLACEHOLDER = "x"  # a word of one token; learned tokens take the places of these
FIRST_WORDS = "a photo of a"  # what the tokens are in the beginning, as far as they reach
INITIAL_STD = 0.02  # of tokens beyond these words


class TextContext(nn.Module):
    """Stands in for the templates of names; the text tower itself stays locked.

    M: learned tokens, V: width of the text tower.
    """

    def __init__(self, count: int, model: nn.Module, tokenizer: Callable[..., Tensor]) -> None:
        """M, an open_clip model, the tokenizer made for it.

        Raises:
            ValueError: the tokenizer leaves no place for M tokens.
        """
        super().__init__()
        self.template = f"{' '.join([PLACEHOLDER] * count)} {SLOT}."
        self.first = _first_place(tokenizer, count)
        width = token_embedding(model).embedding_dim
        self.tokens = nn.Parameter(INITIAL_STD * torch.randn(count, width))  # (M, V)

    @torch.no_grad()
    def begin(self, model: nn.Module, tokenizer: Callable[..., Tensor]) -> None:
        """Start from the tokens of ``a photo of a``, as many of the last ones as there is room."""
        embedding = token_embedding(model)
        ids = [tokenizer([text])[0] for text in (FIRST_WORDS, "")]
        stop = int((ids[0] != ids[1]).nonzero()[-1]) + 1
        words = ids[0][self.first : stop - 1][-len(self.tokens) :]  # but for the end of the text
        vectors = embedding.weight[words.to(embedding.weight.device)]
        self.tokens[len(self.tokens) - len(words) :] = vectors.to(self.tokens)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the tokens."""
        values = self.tokens.detach().float().cpu().contiguous().numpy()
        return hashlib.sha256(values.tobytes()).hexdigest()

    @contextmanager
    def in_place(self, model: nn.Module) -> Iterator[None]:
        """While open, prompts of ``template`` are read with the learned tokens."""

        def exchange(_: nn.Module, __: tuple, embedded: Tensor) -> Tensor:
            """(n, context, V) -> (n, context, V)."""
            own = self.tokens.to(embedded).expand(len(embedded), -1, -1)
            rest = embedded[:, self.first + len(self.tokens) :]
            return torch.cat([embedded[:, : self.first], own, rest], dim=1)

        hook = token_embedding(model).register_forward_hook(exchange)
        try:
            yield
        finally:
            hook.remove()


def token_embedding(model: nn.Module) -> nn.Embedding:
    """Where an open_clip model's text tower looks its tokens up."""
    text = getattr(model, "text", model)
    if isinstance(text, HFTextEncoder):
        return text.transformer.get_input_embeddings()
    return text.token_embedding


def _first_place(tokenizer: Callable[..., Tensor], count: int) -> int:
    """Where in a prompt the first of ``count`` placeholders is, of which there is room."""
    (ids,) = tokenizer([" ".join([PLACEHOLDER] * (count + 1))])  # one for a name
    for first in range(max(0, min(2, len(ids) - count - 1))):
        if (ids[first : first + count + 1] == ids[first]).all():
            return first
    raise ValueError(
        f"clip.text_context must leave room for names in the {len(ids)} tokens that this text "
        f"tower reads, and its tokenizer must know the word {PLACEHOLDER!r}, got {count}"
    )
