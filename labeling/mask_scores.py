"""How a MaskClip names ground-truth masks: all names, and names it was trained without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from labeling.held_out import HeldOut
from maskclip.clip import MaskClip
from maskclip.region_accuracy import classify_masks, region_accuracy, top_k

TOP = 5
MEASURES = ("top1", "mean_per_class")
HEAD_STARTS = 50
CALIBRATED = tuple(
    f"calibrated_{what}" for what in ("start", "seen_top1", "unseen_top1", "h_top1", "area")
)


@dataclass(frozen=True)
class MaskScores:
    """The logits of all N masks for all K texts, and what is true."""

    logits: np.ndarray  # (N, K) float
    texts: tuple[str, ...]  # K
    true: tuple[str, ...]  # N

    def columns(self, texts: Sequence[str]) -> np.ndarray:
        """(N, C) logits of C of the texts, in their order."""
        return self.logits[:, [self.texts.index(text) for text in texts]]

    def labels(self, names: Sequence[str]) -> np.ndarray:
        """(N,) int64: which of the names is each mask's, all of them being among these."""
        return np.array([names.index(name) for name in self.true], dtype=np.int64)


def score_masks(clip: MaskClip, held_out: HeldOut, texts: Sequence[str]) -> MaskScores:
    """Every mask (no crowds) against all texts, so that each photo is encoded once."""
    texts = tuple(dict.fromkeys(texts))
    logits, true = [np.zeros((0, len(texts)), dtype=np.float32)], []
    for image, photo in held_out.each("regions"):
        single = [one for one in photo.instances if not one.crowd]
        if single:
            masks = np.stack([one.mask for one in single])
            logits.append(classify_masks(clip, image, masks, texts).float().cpu().numpy())
            true += [one.name for one in single]
    return MaskScores(np.concatenate(logits), texts, tuple(true))


def measure_regions(scores: MaskScores, held_out: HeldOut) -> dict[str, Any]:
    """Accuracies over the photos' names, the model's and those of the commonest name."""
    names = held_out.names
    true = scores.labels(names)
    logits = scores.columns(names)  # (N, C)
    found = asdict(region_accuracy(logits.argmax(axis=1), true, names))
    found = {"top1": found["top1"], f"top{TOP}": top_k(logits, true, TOP), **found}
    ranked = [label for label, _ in Counter(true.tolist()).most_common(TOP)] or [0]
    constant = asdict(region_accuracy([ranked[0]] * len(true), true, names))
    constant[f"top{TOP}"] = 100 * float(np.isin(true, ranked).mean()) if len(true) else 0.0
    split = _split_accuracy(scores, held_out) if held_out.unseen else {}
    return {"model": found | split, f"always {names[ranked[0]]}": constant}


def _split_accuracy(scores: MaskScores, held_out: HeldOut) -> dict[str, Any]:
    """Seen and unseen masks among all names, their harmonic mean, the unseen by themselves.

    None where there are no such masks.
    """
    new = np.array([name in held_out.unseen for name in scores.true], dtype=bool)
    parts = {"seen": ~new, "unseen": new}
    means = {part: _accuracy(scores, held_out.names, inside) for part, inside in parts.items()}
    names = [name for name in held_out.names if name in held_out.unseen]
    alone = _accuracy(scores, names, new)
    found: dict[str, Any] = {}
    for measure in MEASURES:
        values = {part: means[part][measure] for part in parts}
        found |= {f"{part}_{measure}": value for part, value in values.items()}
        found[f"h_{measure}"] = harmonic_mean(values["seen"], values["unseen"])
    found |= _calibrated(scores, held_out, new)
    found |= {f"unseen_alone_{measure}": alone[measure] for measure in MEASURES}
    found["unseen_alone_chance"] = 100 / len(names) if names else None
    found["unseen_alone_per_class"] = alone["per_class"]
    return found | {"unseen_regions": int(new.sum())}


def _calibrated(scores: MaskScores, held_out: HeldOut, new: np.ndarray) -> dict[str, Any]:
    """Top-1 of seen and unseen masks if unseen names had a head start, and what start that is.

    The one with the best harmonic mean, of 50, chosen on these very masks: calibrated stacking
    (Chao et al., arXiv 1605.04253). ``area``: under the curve of both over all head starts.
    """
    logits = scores.columns(held_out.names)  # (N, C)
    true = scores.labels(held_out.names)
    unseen = np.array([name in held_out.unseen for name in held_out.names], dtype=bool)  # (C,)
    if not new.any() or new.all():
        return dict.fromkeys(CALIBRATED)
    gap = logits[:, ~unseen].max(axis=1) - logits[:, unseen].max(axis=1)  # (N,) what a start needs
    starts = np.unique(np.quantile(gap, np.linspace(0, 1, HEAD_STARTS)))
    both = []
    for start in starts:
        hits = (logits + start * unseen).argmax(axis=1) == true
        both.append((float(start), 100 * float(hits[~new].mean()), 100 * float(hits[new].mean())))
    start, seen_top1, unseen_top1 = max(both, key=lambda each: harmonic_mean(*each[1:]))
    curve = np.array(sorted((of_new, of_old) for _, of_old, of_new in both)) / 100  # (starts, 2)
    values = (
        *(start, seen_top1, unseen_top1, harmonic_mean(seen_top1, unseen_top1)),
        100 * float(np.trapezoid(curve[:, 1], curve[:, 0])),
    )
    return dict(zip(CALIBRATED, values, strict=True))


def _accuracy(scores: MaskScores, names: Sequence[str], inside: np.ndarray) -> dict[str, Any]:
    """Accuracies of the masks ``inside`` (N,), each given one of these names."""
    if not inside.any():
        return {"top1": None, "mean_per_class": None, "per_class": {}}
    said = scores.columns(names)[inside].argmax(axis=1)
    true = [names.index(name) for name, wanted in zip(scores.true, inside, strict=True) if wanted]
    return asdict(region_accuracy(said, true, names))


def harmonic_mean(one: float | None, other: float | None) -> float | None:
    """Of two shares; None where one is missing, 0 where one is."""
    if one is None or other is None:
        return None
    return 2 * one * other / max(one + other, 1e-12)
