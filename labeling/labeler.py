"""Captioned photos as mask–noun pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from labeling.captions import Caption, CaptionedImage
from labeling.matching import MatchConfig, Matcher
from labeling.nouns import NounParser
from maskclip.images import ImageSource, load_image
from maskclip.pairs import Pair
from maskclip.segmentor import Segmentor


class Labeler:
    """Pairs the nouns of a photo's captions with its regions (SPEC 5)."""

    def __init__(
        self,
        segmentor: Segmentor,
        config: MatchConfig | None = None,
        parser: NounParser | None = None,
    ) -> None:
        """A model, which candidates become pairs, and what finds nouns."""
        self.matcher = Matcher(segmentor, config)
        self.parser = parser or NounParser()

    def label(
        self, image: ImageSource, captions: Sequence[str] | CaptionedImage, *, name: str = ""
    ) -> list[Pair]:
        """A photo and what is said of it -> its pairs; ``name`` is its path for the pairs.

        Plain captions get the ids ``0``, ``1`` … Rows are in the order in which the captions say
        the nouns, each with the first caption that does; a noun's regions come by falling score.
        """
        if not isinstance(captions, CaptionedImage):
            said = tuple(Caption(str(place), text) for place, text in enumerate(captions))
            captions = CaptionedImage(name, PurePosixPath(name).stem, said)
        nouns = list(self.parser.nouns(caption.text for caption in captions.captions))
        return self.pair(load_image(image), captions, nouns)

    def pair(
        self, photo: np.ndarray, entry: CaptionedImage, nouns: Sequence[Sequence[str]]
    ) -> list[Pair]:
        """(H, W, 3) uint8 RGB, its captions, the nouns of each of them -> its pairs."""
        said: dict[str, list[Caption]] = {}
        for caption, found in zip(entry.captions, nouns, strict=True):
            for noun in filter(_is_word, found):
                said.setdefault(noun, []).append(caption)
        stem = str(PurePosixPath(entry.image).with_suffix("")) if entry.image else None
        pairs = []
        for match in self.matcher.match(photo, list(said), stem=stem):
            first, *others = said[match.noun]
            pair = Pair.from_mask(
                match.mask,
                image=entry.image,
                image_id=entry.image_id,
                noun=match.noun,
                caption=first.text,
                caption_id=first.id,
                score=match.score,
                probability=match.probability,
                proposal=match.proposal,
            )
            pairs.append(pair)
            if self.matcher.config.duplicates:
                pairs += [replace(pair, caption=c.text, caption_id=c.id) for c in others]
        return pairs


def _is_word(noun: str) -> bool:
    return any(map(str.isalnum, noun))
