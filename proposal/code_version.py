"""Which code this is."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path
from typing import Any


def code_version() -> dict[str, Any]:
    """The package's version; the commit, and whether it was changed, where this is a clone."""
    version = {"maskclip": package_version("maskclip")}
    root = Path(__file__).resolve().parents[1]
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changed = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return version
    return version | {"commit": commit, "changed": changed}


def package_version(package: str) -> str | None:
    """The version that is installed; None if none is."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str:
    asked = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=20
    )
    return asked.stdout.strip()
