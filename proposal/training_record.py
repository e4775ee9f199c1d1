"""What a run was: its configuration, code, data and environment, in run.json."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import detectron2
import torch
from detectron2.utils import comm

from proposal.code_version import code_version, package_version
from proposal.whole_file import write_whole

logger = logging.getLogger(__name__)
RECORD_NAME = "run.json"
PACKAGES = ("torch", "torchvision", "timm", "open_clip_torch", "numpy", "safetensors")
CHUNK = 1 << 20


def make_record(config: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` as plain values, ``data`` by source as ``fingerprint`` made them -> the record."""
    return {
        "config": dict(config),
        "data": dict(data),
        "code": code_version(),
        "environment": environment(),
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write run.json; a resumed run keeps the first record, and lists its own start."""
    path = folder / RECORD_NAME
    first = read_record(folder)
    if first:
        again = {key: record[key] for key in ("started", "command", "code", "environment")}
        record = first | {"config": record["config"]}
        record["resumed"] = [*first.get("resumed", []), again]
    text = json.dumps(record, indent=1, ensure_ascii=False)
    write_whole(path, f"{text}\n".encode())


def read_record(folder: Path) -> dict[str, Any]:
    """What run.json holds; nothing where there is none, or none that can be read."""
    try:
        return json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def check_same_run(folder: Path, record: Mapping[str, Any], may_change: frozenset[str]) -> None:
    """Refuse to go on with a run under another configuration or on other data.

    ``may_change``: settings (``train.workers``), or sections (``data.folders``), which a resumed
    run may have other values of.

    Raises:
        ValueError: something else changed; it is named with both values.
    """
    first = read_record(folder)
    if not first:
        return
    before, now = _flat(_plain(first["config"])), _flat(_plain(record["config"]))
    # A setting that is new was given its default by a newer version; a new source is other data
    changed = [key for key in before if before[key] != now.get(key)]
    free = [key for key in changed if any(_within(key, each) for each in may_change)]
    for key in free:
        logger.info("%s was %s, is %s now", key, before.get(key), now.get(key))
    fixed = [key for key in changed if key not in free]
    if fixed:
        key = fixed[0]
        more = f" (and {len(fixed) - 1} more settings)" if len(fixed) > 1 else ""
        raise ValueError(
            f"--resume needs the configuration that {folder} was started with: {key} was "
            f"{before.get(key)!r}, is {now.get(key)!r}{more}; set it back, or train into another "
            f"--output with --init {folder} (what may change: {', '.join(sorted(may_change))})"
        )
    data = _plain(record["data"])
    strange = [
        name for name in {**first["data"], **data} if first["data"].get(name) != data.get(name)
    ]
    if strange:
        name = strange[0]
        raise ValueError(
            f"--resume needs the data that {folder} was started with: {name} was "
            f"{_brief(first['data'].get(name))}, is {_brief(data.get(name))}; put them back, or "
            f"train into another --output with --init {folder}"
        )


def fingerprint(read: Iterable[Path], listed: Iterable[Path] = ()) -> dict[str, Any]:
    """Files -> their number, bytes and a SHA-256 that changes when they do.

    ``read``: files whose content counts (annotations, name lists, Parquet); ``listed``: files, such
    as photos, that are known by name and size, as reading them all would take too long.
    """
    digest, files, size = hashlib.sha256(), 0, 0
    for path in listed:
        length = path.stat().st_size
        digest.update(f"{path.name}\0{length}\0".encode())
        files, size = files + 1, size + length
    for path in read:
        digest.update(f"{path.name}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
        files += 1
    return {"files": files, "bytes": size, "sha256": digest.hexdigest()}


def environment() -> dict[str, Any]:
    """Packages, machine and processes."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "packages": {
            **{name: package_version(name) for name in PACKAGES},
            "detectron2": detectron2.__version__,  # its re-package has a name of its own
        },
        "cuda": torch.version.cuda if gpus else None,
        "gpus": gpus,
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": comm.get_world_size(),
    }


def _plain(values: Any) -> Any:
    """As it comes back from JSON."""
    return json.loads(json.dumps(values))


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists -> ``{"a.b.0": value}``."""
    if isinstance(values, dict) and values:
        items = values.items()
    elif isinstance(values, list) and any(isinstance(value, dict) for value in values):
        items = enumerate(values)
    else:
        return {prefix.rstrip("."): values}
    flat: dict[str, Any] = {}
    for key, value in items:
        flat |= _flat(value, f"{prefix}{key}.")
    return flat


def _within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


def _brief(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "not there"
    return f"{found['files']} files of {found['bytes']} bytes ({found['sha256'][:8]})"
