"""Text embeddings kept on disk, so that no process computes what another one has."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from maskclip.text_packs import CHECKSUM_BYTES, PackFolder, checksum, write_pack

logger = logging.getLogger(__name__)

FORMAT = 2  # part of every key: raise it when embeddings are made or written differently
GROUP_DIGITS = 16  # of a key: what all embeddings of a tower and its templates share
PACKED = 64  # so many at once go into one file
REMEMBERED = 100_000  # synonyms kept in memory; at 512 numbers each, 200 MiB


def cache_folder() -> Path | None:
    """``$MASKCLIP_CACHE/text``, else ``~/.cache/maskclip/text``; None for a user without a home."""
    try:
        return Path(os.environ.get("MASKCLIP_CACHE") or "~/.cache/maskclip").expanduser() / "text"
    except RuntimeError:
        return None


def cache_keys(fingerprint: str, templates: Sequence[str], synonyms: Iterable[str]) -> list[str]:
    """The key of each synonym: what its embedding depends on, hashed; 64 hexadecimal digits.

    The first ``GROUP_DIGITS`` are the same for all synonyms.
    """
    shared = hashlib.sha256(json.dumps([FORMAT, fingerprint, list(templates)]).encode())
    group = shared.hexdigest()[:GROUP_DIGITS]
    keys = []
    for synonym in synonyms:
        digest = shared.copy()
        digest.update(synonym.encode())
        keys.append(group + digest.hexdigest()[GROUP_DIGITS:])
    return keys


class TextCache:
    """Embeddings by key, in memory, in one small file each or many in a pack.

    A file is written beside its place and then moved there, so that other processes see all of it
    or nothing; checksums tell damaged embeddings, which count as missing and are written anew.
    Where nothing can be written, the cache works in memory and says so once in the log.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_folder() if folder is None else folder
        self.writable = self.folder is not None
        self._memory: dict[str, np.ndarray] = {}
        self._packs: dict[str, PackFolder] = {}

    def read(self, keys: Iterable[str]) -> dict[str, np.ndarray]:
        """Those of the keys that are known, each with its (D,) float32 embedding."""
        keys = list(keys)
        found = {key: self._memory[key] for key in keys if key in self._memory}
        if self.folder is not None:
            for group, missing in _by_group(key for key in keys if key not in found).items():
                found |= self._read_group(group, missing)
        self._remember(found)
        return found

    def write(self, embeddings: Mapping[str, np.ndarray]) -> None:
        """Keep (D,) embeddings under their keys, for this process and the ones to come."""
        self._remember(embeddings)
        if not self.writable:
            return
        try:
            if len(embeddings) >= PACKED:
                for group, keys in _by_group(embeddings).items():
                    write_pack(self.folder / group, {key: embeddings[key] for key in keys})
                return
            for key, embedding in embeddings.items():
                self._write_file(key, embedding)
        except OSError as error:
            self.writable = False
            logger.warning(
                "text embeddings are not kept on disk (%s): set MASKCLIP_CACHE to a folder that"
                " can be written",
                error,
            )

    def _remember(self, embeddings: Mapping[str, np.ndarray]) -> None:
        if len(self._memory) + len(embeddings) > REMEMBERED:
            self._memory.clear()
        self._memory.update(embeddings)

    def _read_group(self, group: str, keys: list[str]) -> dict[str, np.ndarray]:
        """Those of the keys that are on the disk, in packs or alone."""
        folder = self.folder / group
        try:
            present = {path.name for path in folder.iterdir()}
        except OSError:  # mostly: nothing of this tower is known yet
            return {}
        found = self._packs.setdefault(group, PackFolder(folder)).read(keys)
        for key in keys:
            if key not in found and self._path(key).parent.name in present:
                embedding = self._read_file(key)
                found |= {} if embedding is None else {key: embedding}
        return found

    def _path(self, key: str) -> Path:
        group, own = key[:GROUP_DIGITS], key[GROUP_DIGITS:]
        return self.folder / group / own[:2] / f"{own}.f32"

    def _read_file(self, key: str) -> np.ndarray | None:
        try:
            content = self._path(key).read_bytes()
        except OSError:  # mostly: there is none yet
            return None
        numbers = content[CHECKSUM_BYTES:]
        if not numbers or content[:CHECKSUM_BYTES] != checksum(key, numbers):
            logger.info("damaged text embedding %s is computed again", self._path(key))
            return None
        return np.frombuffer(numbers, "<f4")

    def _write_file(self, key: str, embedding: np.ndarray) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        numbers = np.ascontiguousarray(embedding, "<f4").tobytes()
        beside = path.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            beside.write_bytes(checksum(key, numbers) + numbers)
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise


def _by_group(keys: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(key[:GROUP_DIGITS], []).append(key)
    return groups
