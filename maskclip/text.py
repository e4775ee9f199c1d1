"""Names as points in CLIP's space."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import textwrap
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskclip.names import Vocabulary
from maskclip.templates import check_templates, fill
from maskclip.text_cache import TextCache, cache_keys
from maskclip.text_context import TextContext
from maskclip.text_fingerprint import fingerprint_text, weights_stamp
from maskclip.text_towers import context_length, encode_tokens, prompt_lengths

logger = logging.getLogger(__name__)

BATCH_TOKENS = 2048  # tokens in one forward; more gains nothing on a CPU
CHUNK_PROMPTS = 16384  # prompts tokenised and sorted at once; bounds memory for long name lists


class TextEncoder:
    """Encodes names with an open_clip model's text tower and remembers the result on disk.

    n: prompts, K: synonyms, T: templates, D: embedding size.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Callable,
        *,
        cache: TextCache | None = None,
        context: TextContext | None = None,
    ) -> None:
        """An open_clip model, the tokenizer made for it, and where embeddings are kept.

        ``context``: learned tokens that names are read with; templates then count for nothing.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.context = context
        self.cache = TextCache() if cache is None else cache
        self._warned: set[str] = set()
        self._stamp: tuple | None = None
        self._fingerprint = ""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of tower, tokenizer and context; the tower is read again when it has changed."""
        stamp = weights_stamp(self.model)
        if stamp != self._stamp:
            self._fingerprint, self._stamp = fingerprint_text(self.model, self.tokenizer), stamp
        if self.context is None:
            return self._fingerprint
        both = f"{self._fingerprint} {self.context.fingerprint}"
        return hashlib.sha256(both.encode()).hexdigest()

    def encode_names(self, vocabulary: Vocabulary, templates: Sequence[str]) -> Tensor:
        """K synonyms, T templates -> (K, D) unit-length means over the templates."""
        if self.context is not None:
            templates = [self.context.template]
        templates = check_templates(templates, "the list of templates")
        synonyms = list(dict.fromkeys(vocabulary.synonyms))
        self._warn_of_cut(synonyms, templates)
        keys = cache_keys(self.fingerprint, templates, synonyms)
        known = self.cache.read(keys)
        missing = [
            (key, name) for key, name in zip(keys, synonyms, strict=True) if key not in known
        ]
        step = max(1, CHUNK_PROMPTS // len(templates))
        for start in range(0, len(missing), step):
            chunk = dict(missing[start : start + step])
            embeddings = self._average(list(chunk.values()), templates).cpu().numpy()  # (k, D)
            fresh = dict(zip(chunk, embeddings, strict=True))
            self.cache.write(fresh)
            known.update(fresh)
            if len(missing) > step:  # minutes: show that something happens
                logger.info("encoded %d of %d new names", start + len(fresh), len(missing))
        by_synonym = dict(zip(synonyms, keys, strict=True))
        table = np.stack([known[by_synonym[synonym]] for synonym in vocabulary.synonyms])
        return torch.from_numpy(table).to(self._device)  # (K, D)

    def learn_names(self, names: Sequence[str]) -> Tensor:
        """k names -> (k, D) unit length, with a gradient to the learned context; not cached."""
        if not names:
            return self.encode_prompts([])
        prompts = [fill(self.context.template, name) for name in names]
        with self.context.in_place(self.model), _inference(self.model, self._device):
            return F.normalize(self._encode_unique(prompts), dim=-1)  # (k, D)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """n prompts -> (n, D) float32 embeddings, not normalised.

        Equal prompts are encoded once; prompts of like length go together, on a context cut to the
        longest of them where the tower allows it. What is longer than the context is cut.
        """
        if not prompts:
            return self.encode_prompts([""])[:0]
        unique = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
        with torch.no_grad(), _inference(self.model, self._device):
            embeddings = self._encode_unique(list(unique))
        return embeddings[[unique[prompt] for prompt in prompts]]  # (n, D)

    @property
    def _device(self) -> torch.device:
        return self.model.logit_scale.device

    def _average(self, names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """k names, T templates -> (k, D) unit length."""
        prompts = [fill(template, name) for name in names for template in templates]
        with contextlib.ExitStack() as stack:
            if self.context is not None:
                stack.enter_context(self.context.in_place(self.model))
            embeddings = F.normalize(self.encode_prompts(prompts), dim=-1)  # (k * T, D)
        embeddings = embeddings.unflatten(0, (len(names), len(templates)))  # (k, T, D)
        return F.normalize(embeddings.mean(1), dim=-1)  # (k, D)

    def _encode_unique(self, prompts: list[str]) -> Tensor:
        """n prompts -> (n, D) float32."""
        tokens = self._tokenize(prompts)  # (n, context)
        lengths = prompt_lengths(self.model, tokens)  # (n,)
        order = lengths.argsort(stable=True)
        tokens, lengths = tokens[order], lengths[order].tolist()
        encoded = [
            encode_tokens(self.model, tokens[rows, : lengths[rows.stop - 1]].to(self._device))
            for rows in _split_batches(lengths)
        ]
        return torch.cat(encoded).float()[order.argsort()]  # (n, D)

    def _tokenize(self, prompts: Sequence[str], extra: int = 0) -> Tensor:
        """n prompts -> (n, context) tokens."""
        context = context_length(self.model, self.tokenizer)
        return self.tokenizer(list(prompts), context_length=context + extra)

    def _warn_of_cut(self, names: Sequence[str], templates: Sequence[str]) -> None:
        """Say once for each name that it does not fit into the context in some template."""
        context = context_length(self.model, self.tokenizer)
        room = context - 2 - max(len(template.encode()) for template in templates)
        # A token is at least one byte, so that most names need no counting
        for name in names:
            if len(name.encode()) <= room or name in self._warned:
                continue
            prompts = ["", *(fill(template, name) for template in templates)]
            last = self._tokenize(prompts, extra=1)[:, -1]  # (1 + T,) padding if a prompt fits
            if (last != last[0]).any():
                self._warned.add(name)
                logger.warning(
                    "the name %r is longer than the %d tokens this text tower reads: it is cut",
                    textwrap.shorten(name, 60, placeholder=" …"),
                    context,
                )


@contextlib.contextmanager
def _inference(model: nn.Module, device: torch.device) -> Iterator[None]:
    """No dropout and no reduced precision from outside: what is cached must not depend on them."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for module in training:
            module.training = True


def _split_batches(lengths: Sequence[int]) -> Iterator[slice]:
    """Ascending lengths of prompts -> the rows of each batch, padded to its last and longest."""
    start = 0
    for stop, length in enumerate(lengths):
        if stop > start and (stop + 1 - start) * length > BATCH_TOKENS:
            yield slice(start, stop)
            start = stop
    yield slice(start, len(lengths))
