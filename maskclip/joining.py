"""Two stages that were trained apart, made into one model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from maskclip.checkpoint import load_clip, load_proposer
from maskclip.segmentor import Segmentor
from maskclip.segmentor_config import SegmentorConfig
from proposal.checkpoint_files import WEIGHTS_NAME
from proposal.configuration import override_config

SECTION = "segmentor."  # what can be set here; the parts bring settings of their own


def join_parts(
    proposal: str,
    clip: str,
    folder: str | os.PathLike,
    *,
    name: str = "",
    overrides: Sequence[str] = (),
    half: bool = False,
) -> int:
    """Join the proposer of one run with the CLIP of another -> bytes of the weights in ``folder``.

    ``proposal`` and ``clip`` are run or checkpoint folders, or what ``load_proposer`` and
    ``load_clip`` take; ``overrides`` are settings such as ``segmentor.objectness_power=1``.

    Raises:
        ValueError: a part is damaged, a setting unknown, or ``folder`` holds files already.
        FileNotFoundError: there is no such run.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} must be a new or empty folder, it is not: choose another one")
    strays = [each for each in overrides if not each.startswith(SECTION)]
    if strays:
        raise ValueError(f"a setting must look like {SECTION}key=value, got {strays[0]!r}")
    config = override_config(SegmentorConfig(), [each.removeprefix(SECTION) for each in overrides])
    proposer = load_proposer(proposal)
    kind = "maskformer" if isinstance(proposer, torch.nn.Module) else proposal
    segmentor = Segmentor(
        proposer, load_clip(clip), config, name=name or folder.name, proposer_name=kind
    )
    segmentor.save_pretrained(
        folder,
        dtype=torch.float16 if half else torch.float32,
        provenance={"joined_from": {"proposal": str(proposal), "clip": str(clip)}},
    )
    return (folder / WEIGHTS_NAME).stat().st_size
