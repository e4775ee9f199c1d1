"""What the rows of a labelling run depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from labeling.captions import CaptionedImage
from labeling.labeler import Labeler
from labeling.matching import MatchConfig
from labeling.nouns import NounConfig, NounParser, read_stop_nouns
from labeling.shards import pinned_threads
from labeling.word_lists import DATA
from maskclip.segmentor import Segmentor
from proposal.configuration import config_to_dict


@dataclass(frozen=True)
class LabelConfig:
    """A model, how it looks, what counts as a noun and as a pair.

    Raises:
        ValueError: a value outside its range.
    """

    model: str = "nano"
    proposer: str | None = None  # instead of the model's
    clip: str | None = None  # likewise
    overrides: tuple[str, ...] = ()  # such as segmentor.mask_threshold=0.4
    batch_size: int | None = None  # regions of a photo in one forward of CLIP; None: the model's
    threads: int = 1  # CPU threads of a worker: more of them change the last bits of scores
    captions_per_image: str = "all"  # the first so many, or all
    shard_size: int = 200  # photos in one file
    nouns: NounConfig = field(default_factory=NounConfig)
    match: MatchConfig = field(default_factory=MatchConfig)

    def __post_init__(self) -> None:
        for name in ("batch_size", "threads", "shard_size"):
            if vars(self)[name] is not None and vars(self)[name] < 1:
                raise ValueError(f"{name} must be at least 1, got {vars(self)[name]}")
        number = self.captions_per_image
        if number != "all" and not (number.isdecimal() and int(number)):
            raise ValueError(f"captions_per_image must be all, or 1 or more, got {number!r}")

    def choose(self, entries: Sequence[CaptionedImage]) -> list[CaptionedImage]:
        """Entries with as many captions as are wanted."""
        if self.captions_per_image == "all":
            return list(entries)
        wanted = slice(int(self.captions_per_image))
        return [replace(entry, captions=entry.captions[wanted]) for entry in entries]

    def load_segmentor(self, device: str) -> Segmentor:
        """The model with its parts exchanged and its settings overridden.

        Raises:
            FileNotFoundError, ValueError, OSError: as ``Segmentor.from_pretrained``.
        """
        batch = [f"segmentor.clip_batch_size={self.batch_size}"] if self.batch_size else []
        return Segmentor.from_pretrained(
            self.model,
            proposer=self.proposer,
            clip=self.clip,
            device=device,
            overrides=[*self.overrides, *batch],
        )

    def build_labeler(self, segmentor: Segmentor) -> Labeler:
        """What labels with this model, to be used under ``pinned_threads`` as well.

        Raises:
            ValueError, FileNotFoundError: as ``NounParser``.
        """
        with pinned_threads(self.threads):
            return Labeler(segmentor, self.match, NounParser(self.nouns))

    def describe(self, segmentor: Segmentor) -> dict[str, Any]:
        """All settings, the model's own included, as plain values for ``run.json``."""
        settings = config_to_dict(self)
        del settings["batch_size"]  # which is among the segmentor's
        return {
            **settings,
            "nouns_sha256": fingerprint_nouns(self.nouns),
            "segmentor": config_to_dict(segmentor.config),
            "clip_config": config_to_dict(segmentor.clip.config),
            "proposer_name": segmentor.proposer_name,
            "weights_sha256": fingerprint_model(segmentor),
        }


def fingerprint_model(segmentor: Segmentor) -> str:
    """SHA-256 of both parts' weights, the text tower's included."""
    digest = hashlib.sha256(segmentor.clip.text_fingerprint.encode())
    for part in (segmentor.clip, segmentor.proposer):
        if isinstance(part, nn.Module):
            for name, tensor in sorted(part.state_dict().items()):
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
                digest.update(content.numpy())
    return digest.hexdigest()


def fingerprint_nouns(config: NounConfig) -> str:
    """SHA-256 of the word lists that decide what is a noun."""
    digest = hashlib.sha256("\n".join(sorted(read_stop_nouns(config.stop_nouns))).encode())
    for path in sorted(DATA.glob("*.txt")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def fingerprint_captions(entries: Sequence[CaptionedImage]) -> str:
    """SHA-256 of the photos' names and all that is said of them."""
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(repr(entry).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()
