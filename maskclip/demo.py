"""Sample photos that come with installed packages, and others that may lie on this machine."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from proposal.configuration import load_config


@dataclass(frozen=True)
class DemoPhoto:
    """A photo and the names to look for in it."""

    photo: str = ""  # <package>/<path inside it>; in ``more`` a path from the YAML file's folder
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class DemoConfig:
    """What the demo looks at."""

    photos: tuple[DemoPhoto, ...] = ()
    more: tuple[DemoPhoto, ...] = ()  # looked at where they are there


def load_demo(path: Path) -> list[tuple[Path, tuple[str, ...]]]:
    """The YAML file of a demo -> photos with their names, of ``more`` those that are there.

    Raises:
        FileNotFoundError: there is no such file, or a package or its photo is missing.
        ValueError: the file is no such configuration.
    """
    config = load_config(DemoConfig, path, [])
    packaged = [(find_in_package(each.photo), each.names) for each in config.photos]
    more = [((path.parent / each.photo).resolve(), each.names) for each in config.more]
    return packaged + [(photo, names) for photo, names in more if photo.is_file()]


def find_in_package(location: str) -> Path:
    """``<package>/<path inside it>`` -> the file, wherever the package is installed.

    Raises:
        FileNotFoundError: the package or the file is missing.
    """
    package, _, inside = location.partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    folders = (spec.submodule_search_locations if spec else None) or []
    for folder in folders:
        if inside and (Path(folder) / inside).is_file():
            return Path(folder) / inside
    raise FileNotFoundError(
        f"the sample photo {location} is not there: run make setup, which installs {package}"
    )
