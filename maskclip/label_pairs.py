"""Label PNGs as mask-noun pairs: one for each name that a photo's map holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from maskclip.annotations import rle_pair
from maskclip.pairs import Pair
from maskclip.rle import encode_labels
from proposal.data.label_maps import read_label_maps
from proposal.data.regions import read_map
from proposal.data.vocabulary import readable


def label_pairs(
    labels: str | Path,
    images: str | Path,
    names: Sequence[str],
    *,
    first_label: int = 0,
    ignore_label: int | None = None,
) -> Iterator[Pair]:
    """A folder of ``<stem>.png`` maps, the photos they belong to, C names -> pairs by photo.

    A pixel's value less ``first_label`` is the index of its name; smaller values and
    ``ignore_label`` (by default 255, above 255 names 65535) have none. A name's first synonym
    becomes the noun.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: there are no maps, one has no photo, or holds a value that is no name.
        OSError: a map cannot be read.
    """
    nouns = [readable(name.split("|")[0]) for name in names]
    photos = read_label_maps(
        Path(labels),
        Path(images),
        tuple(nouns),
        first_label=first_label,
        ignore_label=ignore_label,
    )
    for photo in tqdm(photos, desc=f"reading {labels}", unit="map", disable=len(photos) < 1000):
        image = photo.path.relative_to(images).as_posix()
        for value, rle in encode_labels(read_map(photo.labels)):
            if value == photo.ignore_label or value < first_label:
                continue
            if value - first_label >= len(nouns):
                last = first_label + len(nouns) - 1
                raise ValueError(
                    f"{photo.labels} must hold labels from {first_label} to {last} for the "
                    f"{len(nouns)} names, or {photo.ignore_label}, got {value}"
                )
            noun = nouns[value - first_label]
            yield rle_pair(rle, image=image, noun=noun, proposal=value)
