"""Both stages joined: a photo and any names in, a name for every pixel out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from maskclip.assemble import assemble, score_maps, weigh_masks
from maskclip.background import Background
from maskclip.checkpoint import Parts, load_parts, save_parts
from maskclip.clip import MaskClip
from maskclip.hub_upload import publish
from maskclip.images import ImageSource, load_image
from maskclip.region_names import NamedRegions, RegionNamer
from maskclip.segmentation import Regions, Segmentation, ignore_label
from maskclip.segmentor_config import SegmentorConfig
from maskclip.stopwatch import Stopwatch
from proposal.proposals import Proposals, Proposer, propose_all


@dataclass(frozen=True)
class _Wanted:
    """What is looked for. C: the user's names, K: synonyms of those and of the background's."""

    names: tuple[str, ...]  # C
    background: Background
    texts: tuple[Tensor, Tensor]  # embeddings (K, D) and owner (K,), the background's names last


class Segmentor:
    """Segments photos by any list of names; its parts may be exchanged.

    Q: proposals, N: those that yield a crop, C: names, K: synonyms, D: embedding size, H x W: the
    photo, h x w: the masks.
    """

    def __init__(
        self,
        proposer: Proposer,
        clip: MaskClip,
        config: SegmentorConfig | None = None,
        *,
        name: str = "",
        proposer_name: str = "",
        provenance: Mapping[str, object] | None = None,
    ) -> None:
        """Any proposer, a CLIP, the settings; ``name`` and ``proposer_name`` go into results.

        ``provenance`` (how it was made, under which licence) goes with it where it is saved.

        Raises:
            ValueError: a setting that this CLIP cannot serve.
        """
        self.proposer = proposer
        self.clip = clip
        self.config = config or SegmentorConfig()
        if self.config.head_start:
            clip.check_taught()
        if self.config.dense_weight:
            clip.check_dense()
        self.name = name
        self.proposer_name = proposer_name or type(proposer).__name__
        self.provenance = dict(provenance or {})

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike,
        *,
        proposer: str | None = None,
        clip: str | None = None,
        device: str = "cpu",
        overrides: Sequence[str] = (),
    ) -> Segmentor:
        """A packaged name, a checkpoint folder or a hub id -> a Segmentor.

        ``proposer`` and ``clip`` exchange a part (``superpixels``, ``ViT-B-16/openai``, a folder);
        ``overrides`` are settings such as ``segmentor.background=threshold:0.3``.

        Raises:
            FileNotFoundError: there is no such model; the packaged ones are listed.
            ValueError: its files are damaged, or a setting is unknown.
            OSError: the hub cannot be reached.
        """
        parts = load_parts(
            source,
            proposer=proposer,
            clip=clip,
            device=device,
            overrides=overrides,
        )
        return cls(
            parts.proposer,
            parts.clip,
            parts.config,
            name=parts.name,
            proposer_name=parts.proposer_name,
            provenance=parts.provenance,
        )

    def save_pretrained(
        self,
        folder: str | os.PathLike,
        *,
        dtype: torch.dtype = torch.float32,
        provenance: Mapping[str, object] | None = None,
    ) -> None:
        """Write a checkpoint folder that ``from_pretrained`` reads; weights as ``dtype``.

        ``provenance`` adds to the model's own.

        Raises:
            ValueError: the proposer is of a kind that no checkpoint can describe.
        """
        known = {**self.provenance, **(provenance or {})}
        parts = Parts(self.proposer, self.clip, self.config, self.name, self.proposer_name, known)
        save_parts(Path(folder), parts, dtype=dtype)

    def push_to_hub(
        self,
        hub_id: str,
        *,
        private: bool = False,
        message: str = "Upload a maskclip model",
        dtype: torch.dtype = torch.float32,
    ) -> str:
        """Publish it as ``owner/name``, for ``from_pretrained("owner/name")`` -> its address.

        The token is that of ``HF_TOKEN``. A model card is written where there is none yet.

        Raises:
            ValueError: ``hub_id`` is no hub id, or the proposer cannot be described.
            OSError: the hub does not take it.
        """
        with TemporaryDirectory(prefix="maskclip-") as folder:
            self.save_pretrained(folder, dtype=dtype)
            return publish(Path(folder), hub_id, private=private, message=message)

    def to(self, device: str | torch.device) -> Segmentor:
        """Move both parts, as far as they have weights."""
        for part in (self.proposer, self.clip):
            if isinstance(part, nn.Module):
                part.to(device)
        return self

    def segment(
        self,
        image: ImageSource,
        names: Sequence[str],
        *,
        stem: str | None = None,
        return_scores: bool = False,
        return_regions: bool = False,
    ) -> Segmentation:
        """A path, PIL image or (H, W, 3) uint8 RGB array, C names -> Segmentation.

        ``return_scores`` adds the (C, H, W) scores, ``return_regions`` what lies behind them.
        ``stem`` is the photo's, for proposers that read files; a path has its own.
        """
        return self.segment_batch(
            [image],
            names,
            stems=None if stem is None else [stem],
            return_scores=return_scores,
            return_regions=return_regions,
        )[0]

    @torch.no_grad()
    def segment_batch(
        self,
        images: Sequence[ImageSource],
        names: Sequence[str],
        *,
        stems: Sequence[str | None] | None = None,
        return_scores: bool = False,
        return_regions: bool = False,
    ) -> list[Segmentation]:
        """B images of any sizes, C names -> B Segmentations, each as if segmented alone."""
        background = Background.parse(self.config.background)
        vocabulary, count = background.extend(names)
        ignore_label(count)  # refuses more names than labels can tell apart, before any work
        if not len(images):
            return []
        photos = [load_image(image) for image in images]
        stems = [_stem(image) for image in images] if stems is None else list(stems)
        watch = Stopwatch(self.clip.device)
        wanted = _Wanted(
            vocabulary.names[:count], background, self.clip.encode_names(vocabulary.names)
        )
        watch.lap("names")
        every_proposals = [
            proposals[proposals.scores >= self.config.min_objectness]
            for proposals in propose_all(self.proposer, photos, stems)
        ]
        watch.lap("propose")
        shared = {stage: spent / len(photos) for stage, spent in watch.milliseconds.items()}
        results = []
        for photo, proposals in zip(photos, every_proposals, strict=True):
            watch = Stopwatch(self.clip.device, shared)
            named = RegionNamer(self.clip, self.config).name(photo, proposals, wanted.texts, watch)
            result = self._assemble(photo, proposals, named, wanted, return_scores=return_scores)
            watch.lap("assemble")
            regions = self._regions(proposals, named, wanted) if return_regions else None
            results.append(replace(result, milliseconds=watch.report(), regions=regions))
        return results

    @torch.no_grad()
    def classify(self, image: ImageSource, proposals: Proposals, names: Sequence[str]) -> Tensor:
        """(H, W, 3) uint8 RGB, Q proposals, C names -> (Q, C): how likely each shows each.

        Rows of proposals that yield no crop are as SPEC 2.5 has them, zero with CLIP alone.
        """
        namer, watch = RegionNamer(self.clip, self.config), Stopwatch(self.clip.device)
        texts = self.clip.encode_names(names)
        return namer.name(load_image(image), proposals, texts, watch).class_probs

    def _assemble(
        self,
        photo: np.ndarray,
        proposals: Proposals,
        named: NamedRegions,
        wanted: _Wanted,
        *,
        return_scores: bool,
    ) -> Segmentation:
        masks = weigh_masks(proposals, named.class_probs, self.config).to(self.clip.device)
        size_hw, count = photo.shape[:2], len(wanted.names)
        labels, confidence = assemble(named.class_probs, masks, size_hw, named.dense)
        ignored = wanted.background.ignored(labels, confidence, count)
        class_probs = named.class_probs[:, :count]
        return Segmentation(
            labels=labels.masked_fill(ignored, ignore_label(count)),
            names=wanted.names,
            confidence=confidence,
            image=photo,
            model=self._describe(),
            scores=score_maps(class_probs, masks, size_hw, named.dense) if return_scores else None,
        )

    def _regions(self, proposals: Proposals, named: NamedRegions, wanted: _Wanted) -> Regions:
        (text_embeddings, owner), count = wanted.texts, len(wanted.names)
        return Regions(
            mask_probs=proposals.mask_probs,
            mask_threshold=self.config.mask_threshold,
            scores=proposals.scores,
            class_probs=named.class_probs[:, :count],
            keep=named.keep,
            region_embeddings=named.region_embeddings,
            text_embeddings=text_embeddings[owner < count],
        )

    def _describe(self) -> dict[str, str]:
        return {
            "name": self.name,
            "proposer": self.proposer_name,
            "clip": self.clip.config.name,
            "version": _version(),
        }


def _stem(image: ImageSource) -> str | None:
    return Path(image).stem if isinstance(image, str | os.PathLike) else None


@cache
def _version() -> str:
    try:
        return metadata.version("maskclip")
    except metadata.PackageNotFoundError:  # run from a folder that was never installed
        return "unknown"
