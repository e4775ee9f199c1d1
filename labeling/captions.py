"""Captioned photos from COCO captions JSON, TSV or JSONL."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

FILE_KEYS = ("file", "image", "file_name", "filename", "filepath", "path", "image_name")
CAPTION_KEYS = ("caption", "title", "text", "comment", "captions")


@dataclass(frozen=True)
class Caption:
    """One sentence about a photo."""

    id: str  # unique in its file
    text: str


@dataclass(frozen=True)
class CaptionedImage:
    """A photo and all that its file says about it."""

    image: str  # path relative to the folder of the photos, with /
    image_id: str
    captions: tuple[Caption, ...]


@dataclass(frozen=True)
class _Line:
    """What one line of a TSV or JSONL file says."""

    number: int  # from 1
    image: str
    texts: tuple[str, ...]
    image_id: str = ""  # "" where the file states none
    caption_id: str = ""  # likewise


def read_captions(path: str | Path) -> list[CaptionedImage]:
    """All photos of a captions file that have captions, sorted by path, each once.

    - ``.json``: COCO captions; ids are COCO's, captions in the order of their ids.
    - ``.tsv``, ``.txt``: a line holds the photo's file and a caption, tab between them; a header
      (``file``, ``caption`` or the like) may name these columns among others. ``x.jpg#2`` is
      caption 2 of ``x.jpg``, as Flickr8k writes it.
    - ``.jsonl``: ``{"file": "x.jpg", "caption": "..."}`` or ``"captions": [...]``, with
      ``image_id`` and ``caption_id`` where there are any.

    Where the file states no ids, ``image_id`` is the path without its suffix (with it, where two
    photos differ in nothing else) and a caption's id is ``<image_id>#<place>``. Empty lines are
    left out; whether the photos exist is not looked at.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another kind, or one of its lines is; the line is told.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no captions file {path}: check the path")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(
            f"{path} must be COCO captions (.json), .tsv or .jsonl, "
            f"got {path.suffix or 'no suffix'}"
        )
    return sorted(reader(path), key=lambda one: one.image)


def _read_coco(path: Path) -> Iterable[CaptionedImage]:
    content = _parse_json(_decode(path.read_bytes(), path, None), str(path))
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        got = f"the keys {sorted(content)}" if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f"{path} must be COCO captions JSON with images and annotations, got {got}: "
            "give other captions as .tsv or .jsonl"
        )
    files = {photo["id"]: photo["file_name"] for photo in _each(content, "images", path)}
    found: dict[str, tuple[Any, list[dict]]] = {}
    for one in _each(content, "annotations", path):
        if one["image_id"] not in files:
            raise ValueError(
                f"annotation {one['id']} of {path} belongs to image {one['image_id']}, "
                "which is not among its images"
            )
        image = _relative(files[one["image_id"]], f"image {one['image_id']} of {path}")
        found.setdefault(image, (one["image_id"], []))[1].append(one)
    for image, (image_id, said) in found.items():
        said.sort(key=lambda one: (len(str(one["id"])), str(one["id"])))
        captions = (Caption(str(one["id"]), one["caption"].strip()) for one in said)
        yield CaptionedImage(image, str(image_id), tuple(captions))


def _each(content: dict[str, Any], section: str, path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a section, each with the keys that are read and a caption that is text."""
    needed = {"images": {"id", "file_name"}, "annotations": {"id", "image_id", "caption"}}[section]
    for place, entry in enumerate(content[section]):
        missing = sorted(needed - entry.keys()) if isinstance(entry, dict) else sorted(needed)
        if missing:
            raise ValueError(f"{section}[{place}] of {path} lacks {missing}: is it COCO captions?")
        if not isinstance(entry.get("caption", ""), str):
            raise ValueError(f"{section}[{place}] of {path} must have text as its caption")
        yield entry


def _read_tsv(path: Path) -> Iterable[CaptionedImage]:
    return _join(_tsv_lines(path), path)


def _tsv_lines(path: Path) -> Iterator[_Line]:
    columns, width = None, 2
    for number, text in _lines(path):
        cells = [cell.strip() for cell in text.split("\t")]
        if columns is None:
            columns = _header_columns(cells)
            if columns is not None:
                width = len(cells)
                continue
            columns = (0, 1)
        if len(cells) != width:
            expected = "a file and a caption" if width == 2 else f"{width} cells, as in the header,"
            raise ValueError(
                f"line {number} of {path} must be {expected} with a tab between them, "
                f"got {len(cells)} cells: {text[:60]!r}"
            )
        image, _, place = cells[columns[0]].partition("#")
        if not place.isdecimal():
            image, place = cells[columns[0]], ""
        yield _Line(number, image, (cells[columns[1]],), caption_id=place and f"#{place}")


def _header_columns(cells: list[str]) -> tuple[int, int] | None:
    """Where file and caption stand, if the cells are a header."""
    lowered = [cell.lower() for cell in cells]
    file = next((lowered.index(key) for key in FILE_KEYS if key in lowered), None)
    caption = next((lowered.index(key) for key in CAPTION_KEYS if key in lowered), None)
    return None if file is None or caption is None else (file, caption)


def _read_jsonl(path: Path) -> Iterable[CaptionedImage]:
    return _join(_jsonl_lines(path), path)


def _jsonl_lines(path: Path) -> Iterator[_Line]:
    for number, text in _lines(path):
        where = f"line {number} of {path}"
        entry = _parse_json(text, where)
        keys = set(entry) if isinstance(entry, dict) else set()
        file = next((entry[key] for key in FILE_KEYS if key in keys), None)
        texts = next((entry[key] for key in CAPTION_KEYS if key in keys), None)
        texts = [texts] if isinstance(texts, str) else texts
        told = isinstance(texts, list) and all(isinstance(one, str) for one in texts)
        if not isinstance(file, str) or not told:
            raise ValueError(
                f'{where} must be an object such as {{"file": "x.jpg", "caption": "a cat"}}, '
                f"got {text[:60]!r}"
            )
        ids = [str(entry.get(key, "")) for key in ("image_id", "caption_id")]
        yield _Line(number, file, tuple(one.strip() for one in texts), *ids)


def _join(lines: Iterable[_Line], path: Path) -> Iterator[CaptionedImage]:
    """Lines of any order -> one entry for each photo, its captions in the order of the file."""
    found: dict[str, list[_Line]] = {}
    for line in lines:
        image = _relative(line.image, f"line {line.number} of {path}")
        found.setdefault(image, []).append(line)
    stems: dict[str, int] = {}
    for image in found:
        stem = str(PurePosixPath(image).with_suffix(""))
        stems[stem] = stems.get(stem, 0) + 1
    for image, said in found.items():
        stem = str(PurePosixPath(image).with_suffix(""))
        image_id = next((one.image_id for one in said if one.image_id), "")
        image_id = image_id or (stem if stems[stem] == 1 else image)
        texts = [(line, text) for line in said for text in line.texts]
        captions = [
            Caption(_caption_id(image_id, line, place), text)
            for place, (line, text) in enumerate(texts)
        ]
        yield CaptionedImage(image, image_id, tuple(captions))


def _caption_id(image_id: str, line: _Line, place: int) -> str:
    if line.caption_id.startswith("#"):
        return image_id + line.caption_id
    alone = line.caption_id and len(line.texts) == 1
    return line.caption_id if alone else f"{image_id}#{place}"


def _relative(image: Any, where: str) -> str:
    """The path of a photo as the pairs keep it."""
    parts = PurePosixPath(image).parts if isinstance(image, str) else ()
    if not parts or parts[0] == "/" or ".." in parts:
        raise ValueError(
            f"{where} must name a photo by its path inside the images folder, got {image!r}"
        )
    return str(PurePosixPath(image))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, with their numbers from 1."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            text = _decode(raw, path, number).rstrip("\r\n")
            if text.strip():
                yield number, text


def _decode(raw: bytes, path: Path, number: int | None) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"line {number} of {path}" if number else str(path)
        raise ValueError(f"{where} must be UTF-8 text ({error.reason}): convert it") from error


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        spot = f" at its line {error.lineno}" if error.lineno > 1 else ""
        raise ValueError(f"{where} must be JSON, got an error{spot}: {error.msg}") from error


_READERS: dict[str, Callable[[Path], Iterable[CaptionedImage]]] = {
    ".json": _read_coco,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".tsv": _read_tsv,
    ".txt": _read_tsv,
}
