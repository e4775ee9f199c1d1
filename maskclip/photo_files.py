"""The photos that files, folders and globs stand for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".mpo", ".tga", ".ico"),
)
OWN_ENDINGS = (".overlay.png", ".labels.png")  # what we wrote ourselves is no input again


@dataclass(frozen=True)
class PhotoFile:
    """A photo and the name, subfolders included, of what is written about it."""

    path: Path
    stem: str  # "holiday/beach": outputs are holiday/beach.json, …


@dataclass(frozen=True)
class _Found:
    path: Path
    root: Path  # subfolders below it are kept


def expand_inputs(
    patterns: Sequence[str | os.PathLike], reserved: Sequence[str] = ()
) -> list[PhotoFile]:
    """Files, folders (with their subfolders) and globs -> photos, each once, in a stable order.

    In folders and globs only files with a photo's ending count, upper or lower case, and neither
    hidden files nor our own ``.overlay.png`` and ``.labels.png``; a file that is named explicitly
    is taken whatever it is called. Photos whose stems clash (with each other, or with
    ``reserved``) keep their endings: ``x.jpg``, ``x.png``; where that is not enough, all photos
    keep their folders, too.

    Raises:
        FileNotFoundError: nothing is there, or a folder or glob holds no photo.
    """
    found: dict[Path, _Found] = {}
    for pattern in patterns:
        for each in _expand(os.fspath(pattern)):
            found.setdefault(Path(os.path.abspath(each.path)), each)  # noqa: PTH100 (keeps links)
    return _choose_stems(list(found.values()), reserved)


def _expand(pattern: str) -> list[_Found]:
    path = Path(pattern)
    if pattern and path.is_dir():
        files = list(_walk(path))
        if not files:
            raise FileNotFoundError(
                f"the folder {path} holds no photos: expected files ending in .jpg, .png, .webp, …"
            )
        return [_Found(file, path) for file in files]
    if pattern and path.exists():
        return [_Found(path, path.parent)]
    if not has_magic(pattern):
        raise FileNotFoundError(f"there is no file or folder {pattern!r}: check the path")
    found = [each for match in _glob(pattern) for each in match]
    if not found:
        raise FileNotFoundError(f"no photo matches {pattern!r}: check the pattern")
    return found


def _glob(pattern: str) -> Iterator[list[_Found]]:
    parts = Path(pattern).parts
    plain = next(count for count, part in enumerate(parts) if has_magic(part))
    root = Path(*parts[:plain])
    for match in sorted(glob(_any_case(pattern), recursive=True)):  # noqa: PTH207 (** finds files)
        path = Path(match)
        if path.is_dir():
            yield [_Found(file, root) for file in _walk(path)]
        elif path.is_file() and _is_photo(path):
            yield [_Found(path, root)]


def _any_case(pattern: str) -> str:
    """``a/*.jpg`` -> ``a/*.[jJ][pP][gG]``."""
    head, dot, ending = pattern.rpartition(".")
    if not dot or not ending.isalnum():
        return pattern
    return head + dot + "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in ending)


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(place) / name for name in sorted(files))
        yield from (path for path in paths if _is_photo(path))


def _is_photo(path: Path) -> bool:
    name = path.name.lower()
    hidden = name.startswith(".")
    return path.suffix.lower() in ENDINGS and not hidden and not name.endswith(OWN_ENDINGS)


def _choose_stems(found: list[_Found], reserved: Sequence[str]) -> list[PhotoFile]:
    """The shortest naming under which no two photos share their outputs."""
    full = [_relative(each) for each in found]
    short = [name.with_suffix("") if name.suffix else name for name in full]
    clashing = _clashing(short, reserved)
    mixed = [
        name if _key(less) in clashing else less for name, less in zip(full, short, strict=True)
    ]
    for names in (short, mixed, full):
        if not _clashing(names, reserved):
            break
    else:
        names = _below_common_folder([each.path for each in found])
    return [PhotoFile(e.path, name.as_posix()) for e, name in zip(found, names, strict=True)]


def _relative(found: _Found) -> Path:
    return found.path.relative_to(found.root)


def _clashing(names: Sequence[Path], reserved: Sequence[str]) -> set[str]:
    counts = Counter([*map(_key, names), *map(_key, map(Path, reserved))])
    return {key for key, count in counts.items() if count > 1}


def _key(name: Path) -> str:
    return name.as_posix().casefold()  # some file systems know no upper case


def _below_common_folder(paths: Sequence[Path]) -> list[Path]:
    absolute = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 (keeps links)
    folder = os.path.commonpath([path.parent for path in absolute])
    return [path.relative_to(folder) for path in absolute]
