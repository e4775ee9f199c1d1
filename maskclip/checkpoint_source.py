"""Where a model's checkpoint folder is."""

from __future__ import annotations

import os
from pathlib import Path

from proposal.checkpoint_files import CONFIG_NAME, WEIGHTS_NAME
from proposal.hub import HUB_ID, fetch

PACKAGED = Path(__file__).parent / "weights"
TEXT_FOLDER = "text"  # in a checkpoint, where its text tower is one from Hugging Face
TEXT_FILES = tuple(
    f"{TEXT_FOLDER}/{name}" for name in ("config.json", "tokenizer.json", "tokenizer_config.json")
)


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
        OSError: the hub does not give it (``proposal.hub``).
    """
    text = str(source)
    if text in packaged_names():
        return PACKAGED / text
    path = Path(source).expanduser()
    if text and path.is_dir():
        return path
    if path.exists() or not HUB_ID.fullmatch(text.partition("@")[0]):
        names = ", ".join(packaged_names()) or "none"
        raise FileNotFoundError(
            f"there is no model {text!r}: give a packaged name ({names}), a checkpoint folder or a "
            "hub id (owner/name, owner/name@revision)"
        )
    try:
        return fetch(text, [CONFIG_NAME, WEIGHTS_NAME], TEXT_FILES)
    except OSError as error:  # most often a folder was meant
        raise OSError(f"there is no folder {text} here, and {error}") from error
