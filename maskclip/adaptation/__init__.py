"""Adapts a CLIP to masked regions: stage 2's training."""

from maskclip.adaptation.config import AdaptConfig
from maskclip.adaptation.training import evaluate, train

__all__ = ["AdaptConfig", "evaluate", "train"]
