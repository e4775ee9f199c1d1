"""The ablation's self-labelled pairs: from all captions of a photo, and from its first alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from labeling.ablation.recipe import Captions
from labeling.captions import CaptionedImage, read_captions
from labeling.label_config import LabelConfig
from labeling.self_label import Job, self_label
from maskclip.annotations import photo_key, read_photo_list
from maskclip.pairs import Pair, images_root, read_pairs, write_pairs_folder
from proposal.whole_file import write_whole

CAPTIONS = "captions.jsonl"
FIRST = "#0"  # ends the id of a photo's first caption


def caption_entries(
    data: Path, sets: tuple[Captions, ...], limit: int | None = None
) -> list[CaptionedImage]:
    """The captioned photos that no measurement uses, at most ``limit`` of each set.

    Paths are relative to ``data``.
    """
    held_out = read_photo_list(data / "splits" / "coco_val.txt")
    entries = []
    for each in sets:
        found = [one for one in read_captions(data / each.file) if _may_teach(one, held_out)]
        wanted = found[: each.photos][:limit]
        entries += [replace(one, image=f"{each.images}/{one.image}") for one in wanted]
    return entries


def write_entries(path: Path, entries: list[CaptionedImage]) -> None:
    """As JSONL; captions get the ids ``<photo>#0``, ``<photo>#1`` … when it is read."""
    lines = [
        json.dumps({"file": one.image, "captions": [caption.text for caption in one.captions]})
        for one in entries
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "".join(f"{line}\n" for line in lines).encode())


def label_all(data: Path, entries: list[CaptionedImage], folder: Path, config: LabelConfig) -> None:
    """Label what is not labelled yet, in this process."""
    captions = folder.with_name(f"{folder.name}.{CAPTIONS}")
    write_entries(captions, entries)
    self_label(Job(data, captions, folder, config, workers=1, device="cpu"))


def keep_first(labelled: Path, folder: Path) -> None:
    """From the pairs of all captions, those whose noun the photo's first caption says.

    A noun's best region does not depend on the other nouns, so these are the pairs that the first
    captions alone would give, but for ``probability``, which no training reads.
    """
    if (folder / "summary.json").is_file():
        return
    rows = [row for row in read_pairs(labelled).to_pylist() if row["caption_id"].endswith(FIRST)]
    pairs = (Pair(**row | {"box_xyxy": tuple(row["box_xyxy"])}) for row in rows)
    config: Mapping[str, str] = {"first captions of": str(labelled)}
    write_pairs_folder(folder, pairs, images=images_root(labelled), config=config)


def _may_teach(entry: CaptionedImage, held_out: frozenset[str]) -> bool:
    return photo_key(entry.image) not in held_out
