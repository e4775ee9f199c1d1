"""How the two stages are joined."""

from __future__ import annotations

from dataclasses import dataclass

from maskclip.background import Background


@dataclass(frozen=True)
class SegmentorConfig:
    """Settings of a Segmentor; they lie in its checkpoint.

    Raises:
        ValueError: a value outside its range.
    """

    mask_threshold: float = 0.5  # above it a pixel belongs to a mask that is cropped
    fusion_weight: float = 1.0  # w of SPEC 2.5: 0 = stage 1 alone, 1 = CLIP alone
    background: str = "none"  # none | threshold:T | NAME,...
    compat: bool = False  # everything as published (SPEC 2)
    objectness_power: float = 0.0  # masks count by their score to this power; 0 = all alike
    certainty_power: float = 0.0  # and by their likeliest name's probability to this power
    size_power: float = 0.0  # and by their share of the photo to minus this power: small on top
    min_objectness: float = 0.0  # proposals that score less are left out: fewer crops, less time
    temperature: float = 0.0  # cosines times this go into the softmax; 0 = CLIP's own, 100 compat
    head_start: float = 0.0  # added to the cosines of names that CLIP's training did not have
    dense_weight: float = 0.0  # share of what the dense head calls each place; the masks' the rest
    dense_temperature: float = 0.0  # its cosines times this into the softmax; 0 = CLIP's own
    clip_batch_size: int = 0  # regions in one forward of CLIP; 0 = what suits its device

    def __post_init__(self) -> None:
        Background.parse(self.background)
        if not 0 <= self.fusion_weight <= 1:
            raise ValueError(f"fusion_weight must be in [0, 1], got {self.fusion_weight}")
        if not 0 <= self.dense_weight <= 1:
            raise ValueError(f"dense_weight must be in [0, 1], got {self.dense_weight}")
        if not 0 <= self.mask_threshold < 1:
            raise ValueError(f"mask_threshold must be in [0, 1), got {self.mask_threshold}")
        if not 0 <= self.min_objectness <= 1:
            raise ValueError(f"min_objectness must be in [0, 1], got {self.min_objectness}")
        powers = ("objectness_power", "certainty_power", "size_power")
        others = ("temperature", "dense_temperature", "head_start", "clip_batch_size")
        for name in (*powers, *others):
            if vars(self)[name] < 0:
                raise ValueError(f"{name} must be 0 or more, got {vars(self)[name]}")
