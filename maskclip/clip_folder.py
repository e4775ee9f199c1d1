"""Checkpoint folders that hold a CLIP alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskclip.clip import MaskClip
from maskclip.text_files import write_clip_config
from proposal.checkpoint_files import write_checkpoint


def save_clip(
    clip: MaskClip, folder: Path, provenance: Mapping[str, Any], *, name: str = ""
) -> None:
    """Write a folder that ``load_clip`` and ``--clip`` read: a CLIP with where it is from."""
    config = {
        "name": name or folder.name,
        "clip": write_clip_config(clip, folder),
        "provenance": dict(provenance),
    }
    tensors = {f"clip.{name}": value for name, value in clip.state_dict().items()}
    write_checkpoint(folder, config, tensors)
