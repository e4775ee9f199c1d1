"""Weights that lie in installed Python packages: ``package:<package>/<path inside it>``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PACKAGE = "package:"


def resolve_package(name: str) -> Path:
    """``package:<package>/<path>`` -> that file or folder inside the installed package.

    Raises:
        FileNotFoundError: the package, or what is asked for in it, is missing.
    """
    package, _, inside = name.removeprefix(PACKAGE).partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"{name} is in the Python package {package}, which is not installed: run make setup, "
            "or pip install it"
        )
    root = Path(next(iter(spec.submodule_search_locations))).resolve()
    path = (root / inside).resolve()
    if not path.exists() or not path.is_relative_to(root):
        raise FileNotFoundError(
            f"the Python package {package} has no {inside}: run make setup, or pip install it again"
        )
    return path
