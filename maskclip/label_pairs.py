"""Label PNGs as mask-noun pairs: one for each name that a photo's map holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from maskclip.annotations import photo_key, rle_pair
from maskclip.pairs import Pair
from maskclip.rle import encode_labels
from proposal.data.regions import read_map, read_regions


def label_pairs(
    labels: str | Path,
    images: str | Path,
    names: Sequence[str],
    *,
    first_label: int = 0,
    wanted: Callable[[str], bool] = bool,
) -> Iterator[Pair]:
    """A folder of ``<stem>.png`` maps, the photos they belong to, C names -> pairs by photo.

    A pixel's value less ``first_label`` is the index of its name; smaller values and 255 (65535
    above 255 names) have none. A name's first synonym becomes the noun. ``wanted`` is asked for
    each photo's key (``photo_key``).

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: there are no maps, one has no photo, or holds a value that is no name.
        OSError: a map cannot be read.
    """
    nouns = [name.split("|")[0].strip() for name in names]
    ignore = 255 if len(nouns) <= 255 else 65535
    photos = read_regions(Path(labels), Path(images))
    for photo in tqdm(photos, desc=f"reading {labels}", unit="map", disable=len(photos) < 1000):
        if not wanted(photo_key(photo.path.name)):
            continue
        image = photo.path.relative_to(images).as_posix()
        for value, rle in encode_labels(read_map(photo.regions)):
            if value == ignore or value < first_label:
                continue
            if value - first_label >= len(nouns):
                last = first_label + len(nouns) - 1
                raise ValueError(
                    f"{photo.regions} must hold labels from {first_label} to {last} for the "
                    f"{len(nouns)} names, or {ignore}, got {value}"
                )
            noun = nouns[value - first_label]
            yield rle_pair(rle, image=image, noun=noun, proposal=value)
