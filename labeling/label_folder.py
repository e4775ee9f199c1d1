"""The folder that labelling fills, shard by shard."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labeling.shards import LabeledShard, Shard, ShardNotes
from maskclip.pairs import SUMMARY, shard_name, write_run
from proposal.whole_file import write_whole

logger = logging.getLogger(__name__)
RUN = "run.json"
MANIFEST, SKIPPED = "manifest.jsonl", "skipped.jsonl"
LOCK = ".lock"  # held by the process that writes here
DRAFTS = ".*.tmp"  # what a killed process leaves of files it had not finished


@dataclass(frozen=True)
class Entry:
    """A line of the manifest: a shard that is done."""

    file: str
    bytes: int
    sha256: str
    notes: ShardNotes

    @classmethod
    def of(cls, file: str, content: bytes, notes: ShardNotes) -> Entry:
        """The entry of a file with this content."""
        return cls(file, len(content), hashlib.sha256(content).hexdigest(), notes)

    @classmethod
    def parse(cls, line: bytes) -> Entry:
        """What ``line`` gave -> the entry."""
        values = json.loads(line)
        fields = (values.pop(name) for name in ("file", "bytes", "sha256"))
        return cls(*fields, notes=ShardNotes.from_dict(values))

    def line(self) -> bytes:
        """One line of JSON."""
        values = {"file": self.file, **asdict(self.notes), "bytes": self.bytes}
        return _json_line(values | {"sha256": self.sha256})


class LabelFolder:
    """Shards that are done, each written whole and once; ``manifest.jsonl`` lists them.

    What is done is decided by the shards' files: the manifest holds their checksums, and a shard
    that was written just before a run was killed is taken into it.
    """

    def __init__(self, path: Path, shards: int) -> None:
        """A folder that is locked, and of how many shards the run consists."""
        self.path = path
        self.shards = shards
        self.done: dict[int, Entry] = {}

    def begin(self, images: Path, config: Mapping[str, Any], **others: Any) -> None:
        """Start the run, or take up one of the same images and config.

        Raises:
            ValueError: another run is in the folder; the message says what differs.
            OSError: it cannot be written.
        """
        for draft in self.path.glob(DRAFTS):
            draft.unlink()
        path = self.path / RUN
        if path.exists():
            check_same_run(path, {"images": str(images.resolve()), "config": dict(config)})
        else:
            self._check_empty()
            write_run(self.path, images, config, **others)
        self._find_done()
        if len(self.done) < self.shards:
            (self.path / SUMMARY).unlink(missing_ok=True)
        self._rewrite()

    def is_missing(self, shard: Shard) -> bool:
        """Whether a shard is still to be labelled."""
        return shard.index not in self.done

    def store(self, shard: LabeledShard) -> None:
        """Write a shard that is done.

        Raises:
            OSError: it cannot be written; nothing of it is.
        """
        entry = Entry.of(shard_name(shard.index), shard.content, shard.notes)
        try:
            write_whole(self.path / entry.file, shard.content)
            self._append(MANIFEST, [entry.line()])
            self._append(SKIPPED, _skipped_lines(entry))
        except OSError as error:
            raise OSError(
                f"cannot write {self.path / entry.file} ({error.strerror or error}): "
                f"{len(self.done)} of {self.shards} shards are done; make room and run the same "
                "command again, it goes on from there"
            ) from error
        self.done[shard.index] = entry

    def finish(self) -> None:
        """Put the lists into the order of the shards."""
        self._rewrite()

    def totals(self) -> dict[str, int]:
        """Counts over the shards that are done."""
        notes = [entry.notes for entry in self.done.values()]
        counts = {
            name: sum(vars(one)[name] for one in notes)
            for name in ("images", "captions", "nouns", "pairs")
        }
        return counts | {"skipped": sum(len(one.skipped) for one in notes)}

    def _check_empty(self) -> None:
        found = sorted(self.path.glob("pairs-*.parquet"))
        if found:
            raise ValueError(
                f"{self.path} holds {found[0].name} but no {RUN} that says how it was made: give a "
                "new or empty folder as --output"
            )

    def _find_done(self) -> None:
        known = {entry.file: entry for entry in self._read_manifest()}
        places = {shard_name(index): index for index in range(self.shards)}
        for path in sorted(self.path.glob("pairs-*.parquet")):
            if path.name not in places:
                raise ValueError(
                    f"{path} is not one of this run's {self.shards} shards: move it elsewhere"
                )
            try:
                entry = Entry.of(path.name, path.read_bytes(), ShardNotes.read(path))
            except (OSError, ValueError, KeyError, TypeError):
                entry = None
            if entry is None or known.get(path.name, entry) != entry:
                logger.warning("%s is damaged: it is made again", path)
                path.unlink()
            else:
                self.done[places[path.name]] = entry

    def _read_manifest(self) -> Iterator[Entry]:
        path = self.path / MANIFEST
        for line in path.read_bytes().splitlines() if path.exists() else []:
            try:
                yield Entry.parse(line)
            except (ValueError, KeyError, TypeError):  # the last line of a killed run
                logger.info("a line of %s is damaged: it is left out", path)

    def _rewrite(self) -> None:
        entries = [self.done[index] for index in sorted(self.done)]
        write_whole(self.path / MANIFEST, b"".join(entry.line() for entry in entries))
        skipped = [line for entry in entries for line in _skipped_lines(entry)]
        write_whole(self.path / SKIPPED, b"".join(skipped))

    def _append(self, name: str, lines: list[bytes]) -> None:
        if not lines:
            return
        with (self.path / name).open("ab") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder where there is none, and be the only process that writes into it.

    Raises:
        OSError: another process does, or the folder cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(
                f"another run is writing into {folder}: wait for it, or give another --output"
            ) from error
        yield


def check_same_run(path: Path, run: dict[str, Any]) -> None:
    """Raise a ValueError if a ``run.json`` tells otherwise than ``run``, or is damaged."""
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        there = {name: there[name] for name in run}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: give a new or empty folder as --output") from error
    run = json.loads(json.dumps(run))  # tuples become lists, as they did there
    differing = list(_differences(there, run))
    if differing:
        raise ValueError(
            f"{path.parent} holds a run with other settings or inputs: {'; '.join(differing[:5])}; "
            "give another --output, or the settings of that run"
        )


def _differences(there: Any, now: Any, name: str = "") -> Iterator[str]:
    if isinstance(there, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*there, *now]):
            yield from _differences(there.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif there != now:
        short = name.removeprefix("config.")
        yield f"{short} was {_brief(there)}, is {_brief(now)}"


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _skipped_lines(entry: Entry) -> list[bytes]:
    return [_json_line(asdict(one)) for one in entry.notes.skipped]


def _json_line(values: dict[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
