"""Many text embeddings in one file, each of which can be read alone.

A pack is a head (what it is, how many rows, how long they are), the keys of its rows, a checksum
of both, and the rows: each a checksum of its own and D numbers.
"""

from __future__ import annotations

import hashlib
import logging
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from proposal.whole_file import write_whole

logger = logging.getLogger(__name__)

SUFFIX = ".pack"
CHECKSUM_BYTES = 16
_HEAD = struct.Struct("<8sII")  # magic, rows, numbers in a row
_MAGIC = b"mcpack1\0"
_KEY_BYTES = 32


def checksum(key: str, numbers: bytes) -> bytes:
    """What tells damaged numbers, and numbers that are another key's."""
    return hashlib.blake2b(key.encode() + numbers, digest_size=CHECKSUM_BYTES).digest()


def write_pack(folder: Path, embeddings: Mapping[str, np.ndarray]) -> Path:
    """Embeddings (D,) of one length under hexadecimal keys -> their file, all of it or nothing.

    Its name follows from the keys, so that processes that write the same write the same file.
    """
    table = np.stack(list(embeddings.values())).astype("<f4")  # (rows, D)
    keys = b"".join(bytes.fromhex(key) for key in embeddings)
    head = _HEAD.pack(_MAGIC, *table.shape) + keys
    rows = [row.tobytes() for row in table]
    body = [checksum(key, row) + row for key, row in zip(embeddings, rows, strict=True)]
    path = folder / f"{hashlib.blake2b(keys, digest_size=16).hexdigest()}{SUFFIX}"
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, b"".join([head, _digest(head), *body]))
    return path


class PackFolder:
    """The packs in a folder; those that others add meanwhile are seen, too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._packs: set[str] = set()  # names of the files that were looked at
        self._places: dict[str, tuple[Path, int, int]] = {}  # key -> file, offset, bytes

    def read(self, keys: Iterable[str]) -> dict[str, np.ndarray]:
        """Those of the keys that are in a pack and undamaged, each with its (D,) float32."""
        keys = list(keys)
        if any(key not in self._places for key in keys):
            self._look()
        wanted: dict[Path, list[tuple[str, int, int]]] = {}
        for key in keys:
            if key in self._places:
                path, offset, size = self._places[key]
                wanted.setdefault(path, []).append((key, offset, size))
        found: dict[str, np.ndarray] = {}
        for path, rows in wanted.items():
            found |= self._read_rows(path, sorted(rows, key=lambda row: row[1]))
        return found

    def _look(self) -> None:
        """Read the keys of packs that are new."""
        try:
            names = {path.name for path in self.folder.glob(f"*{SUFFIX}")}
        except OSError:
            return
        for name in sorted(names - self._packs):
            try:
                self._places |= _read_keys(self.folder / name)
            except (OSError, ValueError):
                logger.info("damaged text embeddings %s are computed again", self.folder / name)
        self._packs |= names

    def _read_rows(self, path: Path, rows: list[tuple[str, int, int]]) -> dict[str, np.ndarray]:
        """(key, offset, bytes) of rows in ascending order -> those that are undamaged."""
        found = {}
        try:
            with path.open("rb") as file:
                for key, offset, size in rows:
                    file.seek(offset)
                    content = file.read(size)
                    numbers = content[CHECKSUM_BYTES:]
                    if content[:CHECKSUM_BYTES] == checksum(key, numbers):
                        found[key] = np.frombuffer(numbers, "<f4")
        except OSError:  # removed meanwhile
            pass
        for key, _, _ in rows:
            if key not in found:
                logger.info("a damaged text embedding in %s is computed again", path)
                del self._places[key]
        return found


def _read_keys(path: Path) -> dict[str, tuple[Path, int, int]]:
    """A pack -> the place of each key's row in it."""
    with path.open("rb") as file:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise ValueError("too short")
        magic, count, length = _HEAD.unpack(head)
        size = CHECKSUM_BYTES + 4 * length
        start = _HEAD.size + count * _KEY_BYTES + CHECKSUM_BYTES
        if magic != _MAGIC or path.stat().st_size != start + count * size:
            raise ValueError("not a whole pack")
        keys = file.read(count * _KEY_BYTES)
        if file.read(CHECKSUM_BYTES) != _digest(head + keys):
            raise ValueError("damaged keys")
    names = [keys[place : place + _KEY_BYTES].hex() for place in range(0, len(keys), _KEY_BYTES)]
    return {name: (path, start + row * size, size) for row, name in enumerate(names)}


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=CHECKSUM_BYTES).digest()
