"""Official downloads become what is evaluated on."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from maskclip.annotations import read_photo_list
from maskclip.datasets.description import load_description
from maskclip.datasets.label_files import check_labels, listing, read_labels
from maskclip.datasets.label_maps import Decoder
from maskclip.datasets.layouts import Item, find_layout
from maskclip.datasets.plans import Choice, Plan, make_plan
from maskclip.datasets.prepared import BEGUN, DONE, IMAGES, INSTANCES, LABELS, NAMES, read_record
from maskclip.json_file import write_json
from maskclip.names import read_class_file
from proposal.whole_file import open_whole, write_whole

logger = logging.getLogger(__name__)

AT_ONCE = 8  # photos that a process is given


@dataclass(frozen=True)
class Preparation:
    """What to prepare, from where, to where."""

    dataset: str
    source: Path
    output: Path | None = None  # nothing = data/<name>
    split: str = ""  # nothing = the data set's first, the one that is evaluated on
    photos: str | None = None  # text file: only these photos
    classes_file: str | None = None  # of instances: only these names
    copy: bool = False  # photos are copied instead of linked
    workers: int = 1


@dataclass(frozen=True)
class Summary:
    """What was prepared, for people."""

    title: str
    photos: int
    expected: int
    names: int
    occurring: int  # names that some label map holds
    ignored: float  # share of the pixels that have no name
    missing: tuple[str, ...]
    output: Path

    def lines(self) -> list[str]:
        """The report, then one line for each thing that is missing."""
        report = (
            f"{self.title}: {self.photos:,} photos, {self.occurring:,} of {self.names:,} names "
            f"occur, {100 * self.ignored:.0f}% of the pixels have none: {self.output}"
        )
        warnings = []
        if self.expected and self.photos != self.expected:
            warnings.append(
                f"incomplete: {self.photos:,} photos, the official split has {self.expected:,}; "
                "numbers on it compare with no published ones"
            )
        if self.missing:
            warnings.append(f"missing: {listing(self.missing)}")
        return [report, *warnings]


def prepare(job: Preparation) -> Summary:
    """Write ``images/``, ``labels/``, ``names.txt`` (and ``instances.json``) into the output.

    Stopped, it goes on where it was when it is called again. ``prepared.json`` is written last.

    Raises:
        FileNotFoundError: files of the download are missing.
        ValueError: a label is out of range, the output holds something else.
        OSError: the output cannot be written.
    """
    name, description = load_description(job.dataset)
    job = replace(
        job,
        output=job.output or Path("data") / name,
        split=job.split or next(iter(description.splits)),
    )
    choice = Choice(
        read_photo_list(job.photos) if job.photos else None,
        tuple(read_class_file(job.classes_file)) if job.classes_file else (),
    )
    plan = make_plan(description, find_layout(description, job.source, job.split), choice)
    expected = 0 if choice.only is not None else description.counts.get(job.split, 0)
    facts = {
        "dataset": name,
        "split": job.split,
        "source": str(job.source.resolve()),
        "names": len(plan.names),
        "ignore": plan.ignore,
        "short_side": description.short_side,
        "photos": len(plan.items),
        "expected": expected,
        "fingerprint": _fingerprint(plan),
        "missing": list(plan.missing),
    }
    _begin(job.output, facts)
    title = f"{description.title}, {job.split}"
    occurring, ignored = _write_all(plan, job, title)
    write_json(job.output / DONE, facts)
    (job.output / BEGUN).unlink(missing_ok=True)
    counts = (len(plan.items), expected, len(plan.names), occurring)
    return Summary(title, *counts, ignored=ignored, missing=plan.missing, output=job.output)


def _write_all(plan: Plan, job: Preparation, title: str) -> tuple[int, float]:
    """-> the number of names that occur, the mean share of ignored pixels."""
    occurring, ignored = set(), []
    work = _convert_all(plan, job)
    for present, share in tqdm(work, title, len(plan.items), unit="photo", disable=None):
        occurring.update(present)
        ignored.append(share)
    write_whole(job.output / NAMES, ("\n".join(plan.names) + "\n").encode())
    if plan.instances is not None:
        write_json(job.output / INSTANCES, plan.instances)
    return len(occurring), float(np.mean(ignored))


def convert(
    item: Item, extra: Any, *, decoder: Decoder, output: Path, count: int, ignore: int, copy: bool
) -> tuple[list[int], float]:
    """Write one photo and its labels -> the labels that it holds, the share of ignored pixels.

    What is already there is read instead.

    Raises:
        ValueError: labels out of range, or not of the photo's size.
    """
    target = output / LABELS / f"{item.stem}.png"
    if target.exists():
        labels = read_labels(target)
    else:
        labels = decoder.decode(item.labels, extra)
        _check_size(item, labels)
        kind = np.uint8 if ignore <= 255 else np.uint16
        with open_whole(target) as file:
            Image.fromarray(labels.astype(kind)).save(file, "png")
    check_labels(target, labels, count, ignore)
    _place_photo(item.photo, output / IMAGES / f"{item.stem}{item.photo.suffix.lower()}", copy)
    held = np.unique(labels[labels != ignore])
    return held.tolist(), float((labels == ignore).mean())


def _convert_all(plan: Plan, job: Preparation) -> Iterator[tuple[list[int], float]]:
    work = partial(
        _convert_pair,
        decoder=plan.decoder,
        output=job.output,
        count=len(plan.names),
        ignore=plan.ignore,
        copy=job.copy,
    )
    extras = (plan.extras.get(item.stem) for item in plan.items) if plan.extras else repeat(None)
    pairs = zip(plan.items, extras, strict=False)
    alone = job.workers <= 1 or len(plan.items) <= AT_ONCE
    spawn = multiprocessing.get_context("spawn")
    # Ctrl-C is this process's business alone
    ignore = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    with nullcontext() if alone else ProcessPoolExecutor(job.workers, spawn, **ignore) as pool:
        try:
            yield from map(work, pairs) if alone else pool.map(work, pairs, chunksize=AT_ONCE)
        except BaseException:
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)
            raise


def _convert_pair(pair: tuple[Item, Any], **settings: Any) -> tuple[list[int], float]:
    return convert(*pair, **settings)


def _begin(output: Path, facts: dict[str, Any]) -> None:
    """Make the folders; refuse an output that holds something else."""
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"--output must be a folder, {output} is a file")
    if output.is_dir() and any(output.iterdir()):
        record = next((output / name for name in (BEGUN, DONE) if (output / name).exists()), None)
        if record is None:
            raise ValueError(
                f"{output} is not empty and no data set was prepared in it: give another --output"
            )
        if read_record(record).get("fingerprint") != facts["fingerprint"]:
            raise ValueError(
                f"{output} holds a preparation of something else (see {record}): remove it or give "
                "another --output"
            )
    for folder in (IMAGES, LABELS):
        (output / folder).mkdir(parents=True, exist_ok=True)
    write_json(output / BEGUN, facts)
    (output / DONE).unlink(missing_ok=True)


def _fingerprint(plan: Plan) -> str:
    """Of the photos, their label files, the names and the decoder."""
    files = [[i.stem, str(i.photo.resolve()), str(i.labels)] for i in plan.items]
    text = json.dumps([files, plan.names, plan.ignore, repr(plan.decoder)])
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def _check_size(item: Item, labels: np.ndarray) -> None:
    with Image.open(item.photo) as image:
        width, height = image.size
    if labels.shape != (height, width):
        raise ValueError(
            f"the labels of {item.photo} must be {height} x {width} like the photo, got "
            f"{labels.shape[0]} x {labels.shape[1]} in {item.labels or 'the annotations'}"
        )


def _place_photo(photo: Path, target: Path, copy: bool) -> None:
    if target.exists():
        return
    target.unlink(missing_ok=True)  # a link whose photo is gone
    if not copy:
        try:
            target.symlink_to(photo.resolve())
            return
        except OSError:  # a file system without links
            logger.warning("cannot make links in %s: copying photos", target.parent)
    draft = target.with_name(f".{target.name}.tmp")
    shutil.copyfile(photo, draft)
    draft.replace(target)
