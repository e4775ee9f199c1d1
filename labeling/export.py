"""Finished pairs in the forms that other tools read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from labeling.export_coco import export_coco
from labeling.export_crops import export_crops

EXPORTS: dict[str, tuple[Callable[[Path, Path], Path], str]] = {  # form: writer, name in the folder
    "coco": (export_coco, "instances.json"),
    "crops": (export_crops, "crops"),
}


def export_pairs(folder: str | Path, form: str) -> Path:
    """Write ``instances.json`` (``coco``) or ``crops/crops.tsv`` (``crops``) into a pairs folder.

    Returns the file.

    Raises:
        ValueError: an unknown form, or what the writer says of the pairs.
        FileNotFoundError: the folder holds no pairs.
    """
    if form not in EXPORTS:
        raise ValueError(f"pairs are exported as {' or '.join(EXPORTS)}, got {form!r}")
    write, name = EXPORTS[form]
    return write(Path(folder), Path(folder) / name)
