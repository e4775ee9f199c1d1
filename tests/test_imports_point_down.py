"""Imports only point down: tools -> labeling -> maskclip -> proposal -> torch, detectron2."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ["proposal", "maskclip", "labeling", "tools"]  # a layer imports only those before it

# Third-party packages that only some rooms may know (DESIGN, "Rooms").
AT_HOME = {"open_clip": {"maskclip"}, "spacy": {"labeling"}}


def imported(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = [alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names]
    names += [n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.level == 0]
    return {name.split(".")[0] for name in names}


def sources(layer: str) -> list[Path]:
    return sorted((ROOT / layer).rglob("*.py"))


def test_the_rooms_exist():
    assert all(sources(layer) for layer in LAYERS)


def test_imports_point_down():
    upward = [
        f"{path.relative_to(ROOT)} imports {name}"
        for rank, layer in enumerate(LAYERS)
        for path in sources(layer)
        for name in imported(path) & set(LAYERS[rank + 1 :])
    ]
    assert not upward, "\n".join(upward)


@pytest.mark.parametrize("package", sorted(AT_HOME))
def test_third_party_packages_stay_in_their_room(package):
    strangers = [
        str(path.relative_to(ROOT))
        for layer in set(LAYERS) - AT_HOME[package]
        for path in sources(layer)
        if package in imported(path)
    ]
    assert not strangers


def test_tools_are_never_imported():
    importers = [
        str(path.relative_to(ROOT))
        for layer in LAYERS
        for path in sources(layer)
        if "tools" in imported(path)
    ]
    assert not importers
