"""Many photos from disk to disk."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from tqdm import tqdm

from maskclip.images import load_image
from maskclip.json_file import write_json
from maskclip.names import parse_names, read_class_file, split_classes
from maskclip.photo_files import PhotoFile, expand_inputs
from maskclip.segmentation import Segmentation, check_kinds
from maskclip.segmentor import Segmentor
from proposal.heap import keep_freed_memory

logger = logging.getLogger(__name__)

SUMMARY = "summary"  # .json: no photo may take its name
STAGES = ("propose", "crop", "clip", "assemble", "total")


@dataclass(frozen=True)
class Job:
    """What to do, checked: nothing here can be wrong any more but the photos themselves.

    Raises:
        ValueError: an empty or blank name, an unknown kind of output, a batch of none.
        FileNotFoundError: an input is missing.
        OSError: nothing can be written into ``output``.
    """

    inputs: Sequence[str]
    names: Sequence[str]
    output: Path
    kinds: Sequence[str] = ("overlay", "labels", "json")
    batch_size: int = 4
    photos: list[PhotoFile] = field(init=False)

    def __post_init__(self) -> None:
        check_kinds(self.kinds)
        parse_names(self.names)
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        check_writable(self.output)
        object.__setattr__(self, "photos", expand_inputs(self.inputs, reserved=[SUMMARY]))


@dataclass(frozen=True)
class Outcome:
    """What became of one photo: files written, or one sentence on why there are none."""

    path: Path
    outputs: list[str] = field(default_factory=list)  # relative to the output folder
    found: list[str] = field(default_factory=list)  # names that got pixels
    line: str = ""  # for people
    error: str = ""

    def entry(self) -> dict[str, Any]:
        """Its entry in ``summary.json``."""
        if self.error:
            return {"path": str(self.path), "error": self.error}
        return {"path": str(self.path), "outputs": self.outputs}


def choose_names(classes: str | None, classes_file: str | None) -> list[str]:
    """The names of ``--classes`` or of ``--classes-file``, checked.

    Raises:
        ValueError: no names, a blank name, a file that is not UTF-8 text.
        FileNotFoundError: there is no such file.
    """
    names = split_classes(classes or "") if classes_file is None else read_class_file(classes_file)
    vocabulary = parse_names(names)
    if len(vocabulary) < len(names):
        merged = [name for name, times in Counter(names).items() if times > 1]
        logger.warning("names given more than once are used once: %s", ", ".join(merged))
    return names


def load_segmentor(
    model: str,
    *,
    proposer: str | None = None,
    clip: str | None = None,
    device: str = "auto",
    background: str | None = None,
    overrides: Sequence[str] = (),
) -> Segmentor:
    """``Segmentor.from_pretrained`` with the flags of the tools.

    Raises:
        FileNotFoundError, ValueError, OSError: as ``from_pretrained``; no such device.
    """
    if background is not None:
        overrides = [*overrides, f"segmentor.background={json.dumps(background)}"]
    device = choose_device(device)
    if device == "cpu":
        keep_freed_memory()  # a command's process is its own; it halves the time of a photo
    return Segmentor.from_pretrained(
        model, proposer=proposer, clip=clip, device=device, overrides=overrides
    )


def choose_device(device: str) -> str:
    """``auto`` -> the best there is: cuda, mps or cpu; others are checked.

    Raises:
        ValueError: this machine has no such device.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    usable = [name for name, is_there in there.items() if is_there] + ["cpu"]
    if device == "auto":
        return usable[0]
    if device.split(":")[0] not in usable:
        raise ValueError(f"this machine has no device {device!r}: choose {' or '.join(usable)}")
    return device


def check_writable(folder: Path) -> None:
    """Raise OSError unless files can be made in ``folder``, which need not exist; make nothing."""
    place = Path(os.path.abspath(folder))  # noqa: PTH100 (keeps links)
    while not place.exists() and place.parent != place:
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(f"cannot write into {folder}: {place} is not a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(f"cannot write into {folder}: no permission to write in {place}")


def predict(job: Job, segmentor: Segmentor) -> Iterator[Outcome]:
    """Segment and save every photo, telling of each as soon as it is done.

    When the caller stops early (Ctrl-C included), what was written so far is whole, and
    ``summary.json`` tells of it.

    Raises:
        OSError: the output folder cannot be made or written.
    """
    outcomes: list[Outcome] = []
    job.output.mkdir(parents=True, exist_ok=True)
    try:
        for outcome in segment_photos(job, segmentor):
            outcomes.append(outcome)
            yield outcome
    finally:
        write_json(job.output / f"{SUMMARY}.json", summarise(job, outcomes))


def segment_photos(job: Job, segmentor: Segmentor) -> Iterator[Outcome]:
    """``predict`` without the summary.

    A photo that cannot be read, segmented or saved does not keep the others from it.
    """
    for start in range(0, len(job.photos), job.batch_size):
        yield from _segment_batch(job, segmentor, job.photos[start:][: job.batch_size])


def summarise(job: Job, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What ``summary.json`` holds."""
    failed = sum(bool(outcome.error) for outcome in outcomes)
    photos_with = Counter(name for outcome in outcomes for name in outcome.found)
    counts = {"photos": len(job.photos), "done": len(outcomes) - failed, "failed": failed}
    return {
        "names": list(parse_names(job.names).names),
        "counts": {**counts, "photos_with": photos_with},
        "photos": [outcome.entry() for outcome in outcomes],
    }


def _segment_batch(
    job: Job, segmentor: Segmentor, photos: Sequence[PhotoFile]
) -> Iterator[Outcome]:
    images: list[np.ndarray] = []
    readable: list[PhotoFile] = []
    for photo in photos:
        try:
            images.append(load_image(photo.path))
            readable.append(photo)
        except (OSError, ValueError, MemoryError) as error:
            yield Outcome(photo.path, error=_sentence(error))
    for photo, result in zip(readable, _segment(job, segmentor, images, readable), strict=True):
        yield _save(job, photo, result)


def _segment(
    job: Job, segmentor: Segmentor, images: list[np.ndarray], photos: list[PhotoFile]
) -> list[Segmentation | Exception]:
    """All at once; where that fails, one by one, so that one photo fails alone."""
    stems = [photo.stem for photo in photos]  # with their subfolders
    regions = not {"masks", "embeddings"}.isdisjoint(job.kinds)
    try:
        return segmentor.segment_batch(images, job.names, stems=stems, return_regions=regions)
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        if len(images) == 1:
            return [error]
    pairs = zip(images, photos, strict=True)
    return [result for i, p in pairs for result in _segment(job, segmentor, [i], [p])]


def _save(job: Job, photo: PhotoFile, result: Segmentation | Exception) -> Outcome:
    if isinstance(result, Exception):
        return Outcome(photo.path, error=f"{photo.path}: {_sentence(result)}")
    start = time.perf_counter()
    try:
        files = result.save(job.output, photo.stem, job.kinds, path=str(photo.path))
    except (OSError, ValueError, MemoryError) as error:
        return Outcome(photo.path, error=f"{photo.path}: {_sentence(error)}")
    saving = 1000 * (time.perf_counter() - start)
    return Outcome(
        photo.path,
        outputs=[file.relative_to(job.output).as_posix() for file in files],
        found=[segment.name for segment in result.segments],
        line=describe(photo.path, result, saving),
    )


def report(outcomes: Iterable[Outcome], total: int, out: TextIO, err: TextIO) -> int:
    """Tell of each photo as it comes: lines on ``out``, failures and progress on ``err``.

    -> the number of photos that failed.
    """
    failures = []
    with tqdm(total=total, unit="photo", file=err, disable=None, leave=False) as bar:
        for outcome in outcomes:
            if outcome.error:
                failures.append(outcome)
            else:
                tqdm.write(_printable(outcome.line, out), file=out)
            bar.update()
    for outcome in failures:
        err.write(_printable(f"{outcome.error}\n", err))
    if failures:
        err.write(f"{len(failures)} of {total} photos failed, the others are done\n")
    return len(failures)


def _printable(text: str, stream: TextIO) -> str:
    """Names of files may hold what the terminal cannot write."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def describe(path: Path, result: Segmentation, saving: float) -> str:
    """``cat.jpg 300x451: cat 61%, sofa 20% | propose 90, crop 5, … total 210, save 80 ms``."""
    height, width = result.labels.shape
    stages = {stage: result.milliseconds.get(stage) for stage in STAGES}
    times = {**{stage: ms for stage, ms in stages.items() if ms is not None}, "save": saving}
    spent = ", ".join(f"{stage} {ms:.0f}" for stage, ms in times.items())
    return f"{path} {height}x{width}: {result.summary(10)} | {spent} ms"


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or f"out of resources ({type(error).__name__})"
