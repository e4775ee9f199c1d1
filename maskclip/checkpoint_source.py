"""Where a model's checkpoint folder is."""

from __future__ import annotations

import os
import re
from pathlib import Path

import huggingface_hub

from proposal.checkpoint_files import CONFIG_NAME, WEIGHTS_NAME

PACKAGED = Path(__file__).parent / "weights"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # owner/name


def packaged_names() -> list[str]:
    """The models that come with the package."""
    return sorted(path.parent.name for path in PACKAGED.glob(f"*/{CONFIG_NAME}"))


def is_checkpoint(source: str | os.PathLike) -> bool:
    """Is it a packaged name or a folder? Nothing is fetched."""
    return str(source) in packaged_names() or (str(source) != "" and Path(source).is_dir())


def find_checkpoint(source: str | os.PathLike) -> Path:
    """A packaged name, a folder, else a hub id -> the folder, fetched if need be.

    Raises:
        FileNotFoundError: there is no such model; what there is is listed.
        OSError: the hub does not give it.
    """
    text = str(source)
    if text in packaged_names():
        return PACKAGED / text
    path = Path(source).expanduser()
    if text and path.is_dir():
        return path
    if path.exists() or not _HUB_ID.fullmatch(text):
        raise FileNotFoundError(f"there is no model {text!r}: {_choices()}")
    return _fetch(text)


def _fetch(hub_id: str) -> Path:
    try:
        folder = huggingface_hub.snapshot_download(
            hub_id, allow_patterns=[CONFIG_NAME, WEIGHTS_NAME]
        )
    except Exception as error:  # network, permissions, disk: whatever it is, no model came
        reason = " ".join(str(error).split())[:200]
        raise OSError(
            f"there is no model {hub_id!r} here, and the hub does not give it ({reason}): "
            f"{_choices()}"
        ) from error
    return Path(folder)


def _choices() -> str:
    names = ", ".join(packaged_names()) or "none"
    return f"give a packaged name ({names}), a checkpoint folder or a hub id (owner/name)"
