"""Two stages that were trained apart, made into one model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from maskclip.checkpoint import MASKFORMER, load_clip, load_proposer, split_overrides
from maskclip.checkpoint_source import find_checkpoint, is_checkpoint
from maskclip.segmentor import Segmentor
from maskclip.segmentor_config import SegmentorConfig
from proposal.checkpoint_files import WEIGHTS_NAME, read_config
from proposal.configuration import override_config
from proposal.maskformer_proposer import MaskFormerProposer


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
    ``load_clip`` take; ``overrides`` are settings such as ``segmentor.objectness_power=1`` or
    ``clip.box_margin=0.05``.

    Raises:
        ValueError: a part is damaged, a setting unknown, or ``folder`` holds files already.
        FileNotFoundError: there is no such run.
    """
    folder = check_folder(folder)
    changes = split_overrides(overrides)
    config = override_config(SegmentorConfig(), changes["segmentor"])
    proposer = load_proposer(proposal, overrides=changes["proposer"])
    kind = MASKFORMER if isinstance(proposer, MaskFormerProposer) else proposal
    segmentor = Segmentor(
        proposer,
        load_clip(clip, overrides=changes["clip"]),
        config,
        name=name or folder.name,
        proposer_name=kind,
    )
    segmentor.save_pretrained(
        folder,
        dtype=torch.float16 if half else torch.float32,
        provenance=_join_provenance(proposal, clip),
    )
    return (folder / WEIGHTS_NAME).stat().st_size


def check_folder(folder: str | os.PathLike) -> Path:
    """The folder, which is to be written.

    Raises:
        ValueError: it holds files already.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} must be a new or empty folder, it is not: choose another one")
    return folder


def _join_provenance(proposal: str, clip: str) -> dict[str, Any]:
    """Where both parts are from; a licence that either is under binds the whole."""
    known = {
        part: read_config(find_checkpoint(source)).get("provenance", {})
        for part, source in (("proposal", proposal), ("clip", clip))
        if is_checkpoint(source)
    }
    licences = dict.fromkeys(each["license"] for each in known.values() if "license" in each)
    return {
        **({"license": " AND ".join(licences)} if licences else {}),
        "joined_from": {"proposal": str(proposal), "clip": str(clip)},
        **({"parts": known} if any(known.values()) else {}),
    }
