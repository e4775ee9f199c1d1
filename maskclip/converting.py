"""Published weights made into checkpoint folders."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import torch

from maskclip.clip_folder import save_clip
from maskclip.joining import check_folder
from maskclip.published import load_published
from maskclip.published_clip import LICENCE, describe_source, load_clip_file
from proposal.checkpoint_files import WEIGHTS_NAME

logger = logging.getLogger(__name__)
SECTION = "segmentor."  # what can be set of published weights; both parts are as they are


def convert_published(
    checkpoint: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    config: str | os.PathLike | None = None,
    name: str = "",
    overrides: Sequence[str] = (),
    half: bool = False,
) -> int:
    """A published OVSeg ``.pth`` -> bytes of the weights in the new checkpoint ``folder``.

    ``config`` is a preset's name or a JSON file; ``overrides`` are settings such as
    ``segmentor.mask_threshold=0.4``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as ``load_published``, or ``folder`` holds files already.
    """
    folder = check_folder(folder)
    segmentor = load_published(checkpoint, config, _strip_section(overrides))
    segmentor.name = name or folder.name
    segmentor.save_pretrained(folder, dtype=torch.float16 if half else torch.float32)
    logger.warning("these weights are under %s: no commercial use", segmentor.provenance["license"])
    return (folder / WEIGHTS_NAME).stat().st_size


def convert_clip(
    checkpoint: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    config: str | os.PathLike | None = None,
    name: str = "",
    half: bool = False,
) -> int:
    """A file with a CLIP -> bytes of the weights in the new ``folder``, for ``--clip folder``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as ``load_clip_file``, or ``folder`` holds files already.
    """
    folder = check_folder(folder)
    clip = load_clip_file(checkpoint, config)
    if half:
        clip.half()
    # Of plain CLIPs nothing tells whose they are; mask-adapted ones in this layout are OVSeg's
    licence = LICENCE if clip.config.prompt_depth else "unknown"
    save_clip(clip, folder, describe_source(checkpoint, licence), name=name)
    return (folder / WEIGHTS_NAME).stat().st_size


def _strip_section(overrides: Sequence[str]) -> list[str]:
    """``segmentor.a=1`` -> ``a=1``.

    Raises:
        ValueError: a setting of another part.
    """
    strays = [each for each in overrides if not each.startswith(SECTION)]
    if strays:
        raise ValueError(f"a setting must look like {SECTION}key=value, got {strays[0]!r}")
    return [each.removeprefix(SECTION) for each in overrides]
