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

logger = logging.getLogger(__name__)

FORMAT = 1  # part of every key: raise it when embeddings are made or written differently
CHECKSUM_BYTES = 16
REMEMBERED = 100_000  # synonyms kept in memory; at 512 numbers each, 200 MiB


def cache_folder() -> Path | None:
    """``$MASKCLIP_CACHE/text``, else ``~/.cache/maskclip/text``; None for a user without a home."""
    try:
        return Path(os.environ.get("MASKCLIP_CACHE") or "~/.cache/maskclip").expanduser() / "text"
    except RuntimeError:
        return None


def cache_keys(fingerprint: str, templates: Sequence[str], synonyms: Iterable[str]) -> list[str]:
    """The key of each synonym: what its embedding depends on, hashed."""
    shared = hashlib.sha256(json.dumps([FORMAT, fingerprint, list(templates)]).encode())
    keys = []
    for synonym in synonyms:
        digest = shared.copy()
        digest.update(synonym.encode())
        keys.append(digest.hexdigest())
    return keys


class TextCache:
    """Embeddings by key, in memory and in one small file each.

    A file is written beside its place and then moved there, so that other processes see all of it
    or nothing; its checksum tells a damaged one, which counts as missing and is written anew.
    Where nothing can be written, the cache works in memory and says so once in the log.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_folder() if folder is None else folder
        self.writable = self.folder is not None
        self._memory: dict[str, np.ndarray] = {}

    def read(self, keys: Iterable[str]) -> dict[str, np.ndarray]:
        """Those of the keys that are known, each with its (D,) float32 embedding."""
        found = {}
        for key in keys:
            embedding = self._memory.get(key)
            if embedding is None:
                embedding = self._read_file(key)
            if embedding is not None:
                found[key] = embedding
        self._remember(found)
        return found

    def write(self, embeddings: Mapping[str, np.ndarray]) -> None:
        """Keep (D,) embeddings under their keys, for this process and the ones to come."""
        self._remember(embeddings)
        if not self.writable:
            return
        try:
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

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.f32"

    def _read_file(self, key: str) -> np.ndarray | None:
        if self.folder is None:
            return None
        try:
            content = self._path(key).read_bytes()
        except OSError:  # mostly: there is none yet
            return None
        checksum, numbers = content[:CHECKSUM_BYTES], content[CHECKSUM_BYTES:]
        if not numbers or checksum != _checksum(key, numbers):
            logger.info("damaged text embedding %s is computed again", self._path(key))
            return None
        return np.frombuffer(numbers, "<f4")

    def _write_file(self, key: str, embedding: np.ndarray) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        numbers = np.ascontiguousarray(embedding, "<f4").tobytes()
        beside = path.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            beside.write_bytes(_checksum(key, numbers) + numbers)
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise


def _checksum(key: str, numbers: bytes) -> bytes:
    return hashlib.blake2b(key.encode() + numbers, digest_size=CHECKSUM_BYTES).digest()
