"""The training of a proposal network whose queries answer in a CLIP's space."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from maskclip.checkpoint import load_clip
from proposal import training
from proposal.training_config import ProposalTraining

logger = logging.getLogger(__name__)


def train(
    config: ProposalTraining, output: Path, *, init: Path | None = None, resume: bool = False
) -> None:
    """``proposal.training.train`` with the names of the training put into ``data.clip``'s space.

    Raises:
        ValueError, FileNotFoundError, OSError: as that, and as ``maskclip.checkpoint.load_clip``.
    """
    training.train(config, output, init=init, resume=resume, encode_names=encode_training_names)


def encode_training_names(spec: str, names: Sequence[str]) -> Tensor:
    """A CLIP (as ``load_clip`` takes it), C names -> (C, D) unit length, on the CPU.

    With the templates that the CLIP is used with. Of several synonyms the first counts.
    """
    clip = load_clip(spec)
    logger.info("encoding the %d names of the training with %s", len(names), spec)
    firsts = tuple(name.split("|")[0].strip() for name in names)
    return clip.encode_nouns(firsts).cpu()
