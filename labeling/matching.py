"""Which region of a photo shows which noun."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from maskclip.clip import MaskClip
from maskclip.fuse import name_logits
from maskclip.region_names import RegionNamer
from maskclip.regions import mask_at_size
from maskclip.segmentor import Segmentor
from maskclip.stopwatch import Stopwatch
from maskclip.text_cache import TextCache, cache_folder
from proposal.proposals import propose_all

REMEMBERED = 50_000  # nouns whose embeddings are kept in memory
TIE = 1e-5  # scores so close are equal: rounding, which a batch's size changes, decides nothing

RAREST = 1e-6  # objectness or share of the photo whose logarithm counts at least


@dataclass(frozen=True)
class MatchConfig:
    """Which of a photo's noun–region candidates become pairs.

    A candidate must meet every condition; of those that do, each noun keeps its best. The paper's
    best is the highest cosine: both powers 0, as they are for a ``compat`` model, too. By default
    the logit (cosine times CLIP's scale) has the logarithms of the region's objectness and of its
    share of the photo added, times the powers: captions tell of whole things, and of large ones,
    while fragments of them often score highest (measured in docs/labeling.md).

    Raises:
        ValueError: a value outside its range.
    """

    top_k: int = 1  # regions for each noun
    min_score: float = -1.0  # cosine
    min_probability: float = 0.0  # of the noun against the other nouns of the photo
    min_area: float = 0.0  # of the mask: from 1 on pixels, below a share of the photo
    max_area: float = 1.0  # likewise, 1 being the whole photo
    objectness_power: float = 1.0  # of the region's objectness, in the ranking; 0 = all alike
    area_power: float = 0.25  # of the region's share of the photo, likewise
    duplicates: bool = False  # a row for every caption that says the noun, not only for the first

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")
        if not -1 <= self.min_score <= 1:
            raise ValueError(f"min_score is a cosine and must be in [-1, 1], got {self.min_score}")
        if not 0 <= self.min_probability <= 1:
            raise ValueError(f"min_probability must be in [0, 1], got {self.min_probability}")
        for name in ("objectness_power", "area_power"):
            if vars(self)[name] < 0:
                raise ValueError(f"{name} must be 0 or more, got {vars(self)[name]}")
        if not (self.min_area >= 0 and self.max_area > 0):
            raise ValueError(
                "min_area must be 0 or more and max_area above 0, "
                f"got {self.min_area} and {self.max_area}"
            )

    def fits(self, mask: np.ndarray) -> bool:
        """(H, W) bool -> whether it has pixels, and neither too few nor too many."""
        area = int(mask.sum())
        least = self.min_area if self.min_area >= 1 else self.min_area * mask.size
        most = self.max_area if self.max_area > 1 else self.max_area * mask.size
        return area > 0 and least <= area <= most


@dataclass(frozen=True)
class Match:
    """One region of a photo that shows a noun."""

    noun: str
    proposal: int  # index among all that the proposer gave for the photo
    score: float  # cosine
    probability: float  # softmax over the nouns of the photo
    mask: np.ndarray  # (H, W) bool, at least one pixel


@dataclass(frozen=True)
class Candidates:
    """Every noun of a photo against every region. N: regions that yield a crop, C: nouns."""

    nouns: tuple[str, ...]  # C
    size_hw: tuple[int, int]  # of the photo
    proposals: list[int]  # (N) index among all that the proposer gave for the photo
    mask_probs: Tensor  # (N, h, w)
    objectness: Tensor  # (N,)
    scores: np.ndarray  # (N, C) cosines
    probabilities: np.ndarray  # (N, C) softmax over the nouns


class Matcher:
    """Scores every noun against every region of a photo; each noun keeps its best.

    Proposals, crops and CLIP's look at them are made once for a photo, whatever the nouns; what it
    finds depends on that photo, its nouns and the settings, on nothing that was matched before.
    """

    def __init__(self, segmentor: Segmentor, config: MatchConfig | None = None) -> None:
        self.segmentor = segmentor
        self.config = config or MatchConfig()
        # Nouns get whole regions: what single places are called does not matter
        self._namer = RegionNamer(segmentor.clip, replace(segmentor.config, dense_weight=0.0))
        self._clip = _read_alone(segmentor.clip)
        self._texts: dict[str, Tensor] = {}

    def match(
        self, photo: np.ndarray, nouns: Sequence[str], *, stem: str | None = None
    ) -> list[Match]:
        """(H, W, 3) uint8 RGB and its nouns -> their regions in the nouns' order, by falling score.

        ``stem`` is the photo's, for proposers that read files.
        """
        return self.choose(self.look(photo, nouns, stem=stem)) if nouns else []

    @torch.no_grad()
    def look(
        self, photo: np.ndarray, nouns: Sequence[str], *, stem: str | None = None
    ) -> Candidates:
        """(H, W, 3) uint8 RGB and C nouns -> all that can be chosen from, whatever the config."""
        proposals = propose_all(self.segmentor.proposer, [photo], [stem])[0]
        confident = proposals.scores >= self.segmentor.config.min_objectness  # (Q,)
        watch = Stopwatch(self.segmentor.clip.device)
        encoded = self._namer.encode(photo, proposals[confident], watch)
        keep, embeddings = encoded.keep, encoded.region_embeddings  # (Q,), (N, D)
        # One by one, as the last bits of an embedding depend on what is encoded beside it
        texts = torch.cat([self._encode(noun) for noun in nouns])  # (C, D)
        owner = torch.arange(len(nouns), device=texts.device)
        cosines = name_logits(embeddings, texts, owner, 1.0).float()  # (N, C)
        kept = confident.nonzero()[:, 0][keep.to(confident.device)]  # (N,)
        return Candidates(
            nouns=tuple(nouns),
            size_hw=photo.shape[:2],
            proposals=kept.tolist(),
            mask_probs=proposals.mask_probs[kept],
            objectness=proposals.scores[kept].float(),
            scores=cosines.cpu().numpy(),
            probabilities=(self._namer.scale * cosines).softmax(dim=1).cpu().numpy(),
        )

    def choose(self, candidates: Candidates) -> list[Match]:
        """What ``look`` gave -> the nouns' regions, by falling score."""
        masks = _Masks(candidates.mask_probs, self, candidates.size_hw)
        bonus = self._bonus(candidates)  # (N,)
        return [
            Match(
                noun,
                proposal=candidates.proposals[row],
                score=float(candidates.scores[row, column]),
                probability=float(candidates.probabilities[row, column]),
                mask=masks[row],
            )
            for column, noun in enumerate(candidates.nouns)
            for row in self._choose(candidates, column, bonus, masks)
        ]

    def _encode(self, noun: str) -> Tensor:
        """-> (1, D) unit length."""
        if noun not in self._texts:
            if len(self._texts) == REMEMBERED:
                self._texts.clear()
            self._texts[noun] = self._clip.encode_names([noun.replace("|", " ")])[0]
        return self._texts[noun]

    def _bonus(self, candidates: Candidates) -> np.ndarray:
        """-> (N,) what is added to the regions' cosines in the ranking."""
        if self.segmentor.config.compat:
            return np.zeros(len(candidates.proposals), dtype=np.float32)
        inside = candidates.mask_probs > self.segmentor.config.mask_threshold  # (N, h, w)
        share = inside.float().mean(dim=(1, 2))  # (N,)
        weights = self.config.objectness_power * candidates.objectness.clamp(min=RAREST).log()
        weights = weights + self.config.area_power * share.clamp(min=RAREST).log()
        return (weights / self._namer.scale).cpu().numpy()

    def _choose(
        self, candidates: Candidates, column: int, bonus: np.ndarray, masks: _Masks
    ) -> list[int]:
        """A noun's place, (N,) what ranks regions beside their scores -> rows, by score."""
        scores, probabilities = candidates.scores[:, column], candidates.probabilities[:, column]
        config, rows = self.config, []
        eligible = (scores >= config.min_score) & (probabilities >= config.min_probability)
        for row in ranked(scores + bonus, np.flatnonzero(eligible)):
            mask = masks[row]
            if mask.size and not any(np.array_equal(mask, masks[other]) for other in rows):
                rows.append(row)
            if len(rows) == config.top_k:
                break
        return list(ranked(scores, np.sort(np.array(rows, dtype=np.int64))))


class _Masks:
    """Masks at the photo's size, made when asked for; those that do not fit are empty."""

    def __init__(self, mask_probs: Tensor, matcher: Matcher, size_hw: tuple[int, int]) -> None:
        """(N, h, w), who matches them, the photo's size."""
        self._mask_probs, self._matcher, self._size_hw = mask_probs, matcher, size_hw
        self._made: dict[int, np.ndarray] = {}

    def __getitem__(self, row: int) -> np.ndarray:
        """-> (H, W) bool, or (0, W)."""
        if row not in self._made:
            threshold = self._matcher.segmentor.config.mask_threshold
            mask = mask_at_size(self._mask_probs[row], threshold, self._size_hw)
            fits = self._matcher.config.fits(mask)
            self._made[row] = mask if fits else np.zeros((0, mask.shape[1]), dtype=bool)
        return self._made[row]


def ranked(scores: np.ndarray, rows: np.ndarray) -> Iterator[int]:
    """(N,) scores and some ascending rows of them -> these rows, best first.

    Of rows whose scores are equal up to ``TIE``, the first comes first.
    """
    left = rows[np.argsort(-scores[rows], kind="stable")]
    while len(left):
        level = int(np.searchsorted(-scores[left], -scores[left[0]] + TIE, side="right"))
        place = int(left[:level].argmin())
        yield int(left[place])
        left = np.delete(left, place)


def _read_alone(clip: MaskClip) -> MaskClip:
    """The same CLIP with a text cache that holds only what was encoded one by one, as here."""
    alone = copy.copy(clip)  # shares every weight
    alone.text_encoder = copy.copy(clip.text_encoder)
    folder, kind = cache_folder(), f"alone-{clip.device.type}-{torch.get_num_threads()}"
    alone.text_encoder.cache = TextCache(folder and folder / kind)
    return alone
