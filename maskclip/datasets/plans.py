"""What is to be done to prepare a data set."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from maskclip.annotations import photo_key
from maskclip.datasets.description import CONFIGS, DatasetDescription
from maskclip.datasets.label_files import listing
from maskclip.datasets.label_maps import (
    ColourDecoder,
    Decoder,
    InstanceDecoder,
    TableDecoder,
    ade_ids,
    listed_values,
)
from maskclip.datasets.layouts import Found, Item, by_stem, photo_files
from maskclip.names import read_class_file
from maskclip.segmentation import ignore_label

CONTEXT_NAMES = "vocabularies/pc459.txt"  # the names of the values of Pascal Context's .mat files


@dataclass(frozen=True)
class Plan:
    """Photos to prepare, how their labels are read, what they are called."""

    items: tuple[Item, ...]
    decoder: Decoder
    names: tuple[str, ...]
    ignore: int
    extras: dict[str, Any] = field(default_factory=dict)  # stem -> what the decoder needs of it
    instances: dict[str, Any] | None = None  # COCO JSON, file names being those prepared
    missing: tuple[str, ...] = ()  # in words


@dataclass(frozen=True)
class Choice:
    """What a user wants other than usual."""

    only: Collection[str] | None = None  # keys of photos (``photo_key``)
    names: tuple[str, ...] = ()  # of instances: only these, others hide what lies below


def make_plan(description: DatasetDescription, found: Found, choice: Choice) -> Plan:
    """Read the download's lists and annotations.

    Raises:
        FileNotFoundError: a file is missing, or no photo is left.
        ValueError: a file is not what it should be.
    """
    if choice.names and description.decode != "instances":
        raise ValueError(
            f"{description.title} has label files: other names than its own can be given for "
            "instances only"
        )
    if description.decode == "instances":
        return _plan_instances(description, found, choice)
    items, missing = found.items()
    items = _keep(items, choice.only)
    names, ignore = description.read_names(), description.ignore
    if description.decode == "panoptic":
        return _plan_panoptic(found, items, names, missing)
    if description.decode == "ade_full":
        files = [i.labels.with_name(f"{i.stem}.json") for i in items]
        table = ade_ids(tqdm(files, desc="annotations", unit="file", disable=None), names)
        decoder: Decoder = ColourDecoder("ade_full", table, ignore)
    else:
        decoder = TableDecoder(_table(description, found), ignore)
    return Plan(tuple(items), decoder, names, ignore, missing=tuple(missing))


def _keep(items: list[Item], only: Collection[str] | None) -> list[Item]:
    kept = [i for i in items if only is None or photo_key(i.photo.name) in only]
    if not kept:
        raise FileNotFoundError(
            f"none of the {len(items)} photos found is in the list: one file name a line"
        )
    return kept


def _table(description: DatasetDescription, found: Found) -> dict[int, int]:
    """Value of a label file -> index, or ignore."""
    names, ignore = description.read_names(), description.ignore
    if found.layout.label_end == ".mat":
        every = read_class_file(CONFIGS / CONTEXT_NAMES)
        index = {name: i for i, name in enumerate(names)}
        return {0: ignore} | {v: index.get(name, ignore) for v, name in enumerate(every, start=1)}
    if found.annotations is not None:
        table = listed_values(found.annotations, names)
    elif description.ids:
        table = {value: i for i, value in enumerate(description.ids)}
    else:
        order = found.layout.order or names
        table = {v: names.index(name) for v, name in enumerate(order, start=description.first)}
    return dict.fromkeys(description.ignored, ignore) | table


def _plan_panoptic(
    found: Found, items: list[Item], names: tuple[str, ...], missing: list[str]
) -> Plan:
    content = _read(found.annotations, ("annotations", "categories", "images"))
    categories = sorted(content["categories"], key=lambda one: one["id"])
    if len(categories) != len(names):
        raise ValueError(
            f"{found.annotations} must have {len(names)} categories, got {len(categories)}: is it "
            "COCO's panoptic JSON?"
        )
    index = {category["id"]: i for i, category in enumerate(categories)}
    segments = {Path(a["file_name"]).stem: a["segments_info"] for a in content["annotations"]}
    unknown = [item.stem for item in items if item.stem not in segments]
    if unknown:
        raise ValueError(f"{found.annotations} lacks the photos {listing(unknown)}")
    extras = {i.stem: {s["id"]: index[s["category_id"]] for s in segments[i.stem]} for i in items}
    ignore = ignore_label(len(names))
    decoder = ColourDecoder("panoptic", {}, ignore)
    return Plan(tuple(items), decoder, names, ignore, extras, missing=tuple(missing))


def _plan_instances(description: DatasetDescription, found: Found, choice: Choice) -> Plan:
    content = _read(found.annotations, ("annotations", "categories", "images"))
    categories = sorted(content["categories"], key=lambda one: one["id"])
    spelled = {c["id"]: c["name"].replace("_", " ") for c in categories}
    names = choice.names or tuple(spelled.values())
    missing = []
    strange = len(categories) != description.name_count
    index = {name: i for i, name in enumerate(names)}
    ignore = ignore_label(len(names))
    labels = {number: index[name] for number, name in spelled.items() if name in index}
    if not labels:
        raise ValueError(f"none of the names given is one of {found.annotations}'s: check them")
    items, images, extras = _photos_of(content, found, choice, missing)
    if not items:
        raise FileNotFoundError(
            f"none of the {len(content['images'])} photos of {found.annotations} lies below "
            f"{found.photos}: {listing(missing)}; download {description.download}"
        )
    if strange:
        got, expected = len(categories), description.name_count
        missing.insert(0, f"{expected:,} names ({description.title}), the annotations have {got:,}")
    kept = {photo["id"] for photo in images}
    instances = {
        "images": images,
        "annotations": [a for a in content["annotations"] if a["image_id"] in kept],
        "categories": [{**c, "name": spelled[c["id"]]} for c in categories],
    }
    decoder = InstanceDecoder(labels, ignore)
    return Plan(tuple(items), decoder, names, ignore, extras, instances, tuple(missing))


def _photos_of(
    content: dict[str, Any], found: Found, choice: Choice, missing: list[str]
) -> tuple[list[Item], list[dict[str, Any]], dict[str, Any]]:
    """-> photos on the disk, their entries, size and annotations; others go to ``missing``."""
    by_photo = defaultdict(list)
    for annotation in content["annotations"]:
        by_photo[annotation["image_id"]].append(annotation)
    files = {photo_key(stem): path for stem, path in by_stem(photo_files(found.photos), "").items()}
    items, images, extras = [], [], {}
    for photo in content["images"]:
        name = Path(photo.get("coco_url") or photo["file_name"]).name
        if choice.only is not None and photo_key(name) not in choice.only:
            continue
        path = files.get(photo_key(name))
        if path is None:
            missing.append(f"photo {name}")
            continue
        items.append(Item(path.stem, path))
        images.append({**photo, "file_name": path.name})
        size_hw = photo["height"], photo["width"]
        extras[path.stem] = {"size_hw": size_hw, "annotations": by_photo[photo["id"]]}
    return items, images, extras


def _read(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in keys if key not in content]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is no JSON of annotations: {error}") from error
    if missing:
        raise ValueError(f"{path} must hold {', '.join(keys)}, it lacks {', '.join(missing)}")
    return content
