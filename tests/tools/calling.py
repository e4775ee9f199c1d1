"""A tool run in the tests' own process."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def caller(name: str) -> Callable[..., int]:
    """Of ``tools/<name>.py``: a function from pytest's monkeypatch and arguments to the exit code.

    ``tool`` names another one.
    """

    def call(monkeypatch, *args: object, tool: str = name) -> int:
        path = TOOLS / f"{tool}.py"
        spec = importlib.util.spec_from_file_location(tool, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, args)])
        try:
            return module.main()
        except SystemExit as stop:
            return stop.code

    return call
