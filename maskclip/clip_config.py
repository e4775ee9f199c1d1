"""What a CLIP is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import open_clip
import torch

from maskclip.packages import PACKAGE

BACKGROUNDS = ("mean", "attenuate", "blur", "keep")
INTERPOLATIONS = ("bicubic", "bilinear")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class ClipConfig:
    """What a MaskClip is made of, and how its crops are to be made.

    Raises:
        ValueError: a value that is not among the possible ones.
    """

    name: str = ""  # as asked for, e.g. ViT-B-16/openai
    # An open_clip model configuration (embed_dim, vision_cfg, text_cfg, quick_gelu). A text tower
    # from a Python package has hf_model_name "package:<package>/<folder>"; it is never stored.
    model: dict[str, Any] = field(default_factory=dict)
    prompt_depth: int = 0  # L, 0 = no mask prompts
    mask_prompts: bool = True  # False leaves prompts that are there unused
    templates: str = "vild"
    background: str = "mean"  # of a crop, outside the mask: mean | attenuate | blur | keep
    box_margin: float = 0.0  # of a box's sides, added around it: what a crop shows of the context
    background_strength: float = 0.5  # what is left of the background's contrast with attenuate
    pixel_prompt: float = 0.0  # alpha of a learned prompt on the region's pixels; 0 = none
    text_context: int = 0  # learned tokens before each name, in place of templates
    photo_context: bool = False  # regions also know what a second trunk sees of the whole photo
    photo_detector: bool = False  # … and what a detector of COCO's objects sees of it
    dense_width: int = 0  # of a head that names places of that trunk's map; 0 = none
    mean: tuple[float, float, float] = (
        open_clip.OPENAI_DATASET_MEAN
    )  # of RGB in [0, 1]; also the fill colour
    std: tuple[float, float, float] = open_clip.OPENAI_DATASET_STD
    fill: tuple[float, float, float] | None = None  # of a crop outside its mask, if not the mean
    interpolation: str = "bicubic"  # of crops: bicubic | bilinear, as the tower was trained
    precision: str = "fp32"  # the image tower computes in: fp32 | bf16 | fp16
    taught: tuple[str, ...] = ()  # the nouns that the image tower was trained on, where known
    text_sha256: str = ""  # of the weights of a text tower from a package, checked when loaded

    def __post_init__(self) -> None:
        if self.prompt_depth < 0:
            raise ValueError(f"prompt_depth must be 0 or more, got {self.prompt_depth}")
        choices = (
            ("background", BACKGROUNDS),
            ("interpolation", INTERPOLATIONS),
            ("precision", PRECISIONS),
        )
        for name, known in choices:
            if getattr(self, name) not in known:
                got = getattr(self, name)
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {got!r}")
        if not 0 <= self.background_strength <= 1:
            raise ValueError(
                f"background_strength must be in [0, 1], got {self.background_strength}"
            )
        for name in ("box_margin", "text_context"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if self.photo_detector and not self.photo_context:
            raise ValueError("photo_detector needs photo_context, on whose grid its maps lie")
        if self.dense_width < 0 or (self.dense_width and not self.photo_context):
            raise ValueError(
                "dense_width must be 0, or above with photo_context, whose map the head reads, got "
                f"{self.dense_width}"
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError("mean and std must be three numbers each, std above 0")

    @property
    def text_is_packaged(self) -> bool:
        """Whether the text tower lies in an installed package, and so not in checkpoints."""
        name = self.model.get("text_cfg", {}).get("hf_model_name") or ""
        return name.startswith(PACKAGE)
