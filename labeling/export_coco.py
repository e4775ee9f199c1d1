"""Pairs as COCO instances, the form that most tools for masks read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from labeling.pair_stream import count_rows, stream_rows
from proposal.whole_file import open_whole

COLUMNS = (
    *("image", "image_id", "height", "width", "noun", "caption", "caption_id", "score"),
    *("probability", "box_xyxy", "area", "mask", "proposal"),
)


def export_coco(folder: str | Path, output: str | Path) -> Path:
    """Write the pairs of ``folder`` as one COCO instances JSON, which pycocotools loads.

    Categories are the nouns, numbered from 1 in alphabetic order. Images are those with pairs;
    their ids are the pairs' where all of these are whole numbers, else they are numbered from 1.
    Annotations keep the order of the shards, with ``score``, ``probability``, ``caption``,
    ``caption_id`` and ``proposal`` beside COCO's own fields. Annotations are streamed; images and
    nouns are in memory. Returns ``output``.

    Raises:
        FileNotFoundError: the folder holds no pairs.
        ValueError: a shard is damaged.
    """
    output = Path(output)
    images, nouns = _read_images(folder)
    image_ids = {image: entry["id"] for image, entry in images.items()}
    category_ids = {noun: number for number, noun in enumerate(nouns, start=1)}
    output.parent.mkdir(parents=True, exist_ok=True)
    with open_whole(output) as file:
        info = {"description": "mask-noun pairs of maskclip", "version": "1.0"}
        categories = [{"id": number, "name": noun} for noun, number in category_ids.items()]
        parts = {"info": [json.dumps(info)], "licenses": ["[]"]}
        parts["images"] = _array(iter(images.values()))
        parts["categories"] = _array(iter(categories))
        parts["annotations"] = _array(_annotations(folder, image_ids, category_ids))
        for place, (key, chunks) in enumerate(parts.items()):
            file.write(f"{',' if place else '{'}\n{json.dumps(key)}: ".encode())
            for chunk in chunks:
                file.write(chunk.encode("utf-8", "backslashreplace"))
        file.write(b"}\n")
    return output


def _read_images(folder: str | Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The entries of all images, by path, and all nouns in alphabetic order."""
    images: dict[str, dict[str, Any]] = {}
    stated: dict[str, str] = {}
    nouns: set[str] = set()
    for row in stream_rows(folder, ("image", "image_id", "height", "width", "noun")):
        nouns.add(row["noun"])
        if row["image"] not in images:
            stated[row["image"]] = row["image_id"]
            images[row["image"]] = {
                "id": 0,
                "file_name": row["image"],
                "height": row["height"],
                "width": row["width"],
            }
    numbers = [int(one) for one in stated.values() if one.isdecimal() and one.isascii()]
    usable = len(set(numbers)) == len(images)
    for number, (image, entry) in enumerate(images.items(), start=1):
        entry["id"] = int(stated[image]) if usable else number
    return images, sorted(nouns)


def _annotations(
    folder: str | Path, image_ids: dict[str, int], category_ids: dict[str, int]
) -> Iterator[dict[str, Any]]:
    rows = tqdm(stream_rows(folder, COLUMNS), "coco", count_rows(folder), unit="pair")
    for number, row in enumerate(rows, start=1):
        left, top, right, bottom = row["box_xyxy"]
        yield {
            "id": number,
            "image_id": image_ids[row["image"]],
            "category_id": category_ids[row["noun"]],
            "segmentation": {
                "size": [row["height"], row["width"]],
                "counts": row["mask"].decode("ascii"),
            },
            "bbox": [left, top, right - left, bottom - top],
            "area": row["area"],
            "iscrowd": 0,
            "score": row["score"],
            "probability": row["probability"],
            "caption": row["caption"],
            "caption_id": row["caption_id"],
            "proposal": row["proposal"],
        }


def _array(entries: Iterator[dict[str, Any]]) -> Iterator[str]:
    """JSON of a list, entry by entry."""
    yield "["
    for place, entry in enumerate(entries):
        yield (",\n" if place else "\n") + json.dumps(entry, ensure_ascii=False)
    yield "]"
