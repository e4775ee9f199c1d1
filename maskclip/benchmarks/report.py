"""A page that shows what an evaluation found: names, confusions, best and worst photos."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskclip.benchmarks.labelled_set import LabelledSet
from maskclip.benchmarks.labellers import Labeller, Photo
from maskclip.benchmarks.report_page import Drawn, Shown, write_page
from maskclip.benchmarks.semantic import Semantic, add_up
from maskclip.evaluation import Confusion, unique_keys
from maskclip.palette import label_colour
from maskclip.segmentation import Segmentation, display_name, ignore_label, percent
from proposal.whole_file import write_whole

SHOWN = 8  # photos among the best, and among the worst
SIDE = 460  # pixels of the longer side of a picture
LISTED = 12  # names below it
PAIRS = 40  # confusions that are listed
PAGE = "index.html"
NEAREST = Image.Resampling.NEAREST


@dataclass(frozen=True)
class Pair:
    """Pixels of one name that were given another."""

    true: str
    said: str
    pixels: int
    share: float  # of the true name's pixels, in percent


def write_report(
    folder: Path,
    semantic: Semantic,
    labelled: LabelledSet,
    records: Sequence[Any],
    metrics: dict[str, Any],
    *,
    device: str,
) -> Path:
    """Write ``index.html``, which holds everything, into ``folder`` -> its path.

    ``records`` hold the cells of one setting. The photos that are shown are labelled once more.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scores = photo_scores(records, labelled)
    pixels = [sum(pixels for _, _, pixels in cells) for cells in records]
    best, worst = choose_extremes(scores, pixels)
    labeller = semantic.labeller(device) if best or worst else None
    galleries = {
        title: [_show(semantic, labeller, labelled, index, scores[index]) for index in chosen]
        for title, chosen in (("Worst photos", worst), ("Best photos", best))
    }
    confusion = add_up([[record] for record in records], labelled)
    page = write_page(labelled, metrics, name_rows(confusion), confused_pairs(confusion), galleries)
    write_whole(folder / PAGE, page.encode("utf-8", "backslashreplace"))
    return folder / PAGE


def photo_scores(records: Sequence[Any], labelled: LabelledSet) -> list[float | None]:
    """The mIoU of each photo by itself; None where no pixel is counted."""
    scores = []
    for cells in records:
        confusion = Confusion(labelled.names, labelled.ignore)
        confusion.add_cells(cells)
        scores.append(confusion.metrics()["mIoU"] if cells else None)
    return scores


def choose_extremes(
    scores: Sequence[float | None], pixels: Sequence[int]
) -> tuple[list[int], list[int]]:
    """-> the best photos, best first; the worst, worst first. None is in both.

    Of equal ones those with more counted pixels come first.
    """
    scored = [index for index, score in enumerate(scores) if score is not None]
    order = sorted(scored, key=lambda index: (scores[index], -pixels[index]))
    worst = order[: min(SHOWN, len(order) // 2)]
    rest = sorted(order[len(worst) :], key=lambda index: (-scores[index], -pixels[index]))
    return rest[:SHOWN], worst


def confused_pairs(confusion: Confusion) -> list[Pair]:
    """The confusions that cost most pixels, largest first."""
    counts = confusion.counts.copy()
    np.fill_diagonal(counts, 0)
    names = [*map(display_name, confusion.names), "(nothing)"]
    totals = confusion.counts.sum(axis=1)
    order = np.argsort(-counts, axis=None, kind="stable")[:PAIRS]
    cells = [(int(cell) // counts.shape[1], int(cell) % counts.shape[1]) for cell in order]
    return [
        Pair(names[true], names[said], int(pixels), 100 * float(pixels / totals[true]))
        for true, said in cells
        if (pixels := counts[true, said])
    ]


def name_rows(confusion: Confusion) -> list[dict[str, Any]]:
    """For each name that is there or was said: IoU, accuracy, what it is most taken for."""
    metrics = confusion.metrics()["per_class"]
    labels = {key: i for i, key in enumerate(unique_keys(confusion.names))}
    total = max(int(confusion.counts.sum()), 1)
    rows = []
    for key, numbers in metrics.items():
        row = confusion.counts[labels[key]].copy()
        pixels = int(row.sum())
        row[labels[key]] = 0
        taken = int(row.argmax())
        rows.append(
            {
                "name": key,
                **numbers,
                "share": 100 * pixels / total,
                "taken": (*map(display_name, confusion.names), "(nothing)")[taken]
                if row[taken]
                else "",
            }
        )
    return rows


def _show(
    semantic: Semantic, labeller: Labeller, labelled: LabelledSet, index: int, score: float
) -> Shown:
    (photo,) = semantic.read([labelled.photos[index]])
    (maps,) = labeller.label([photo])
    counted = photo.truth != labelled.ignore
    right = 100 * float((maps[0] == photo.truth)[counted].mean())
    return Shown(
        title=photo.stem,
        score=score,
        accuracy=right,
        photo=_picture(_shrink(photo)),
        truth=_draw(photo, photo.truth, labelled),
        said=_draw(photo, maps[0], labelled),
    )


def _draw(photo: Photo, labels: np.ndarray, labelled: LabelledSet) -> Drawn:
    """The photo, made small, under (H, W) labels; those that are no name are hatched."""
    image = np.asarray(_shrink(photo))
    height, width = image.shape[:2]
    small = Image.fromarray(labels.astype(np.int32)).resize((width, height), NEAREST)
    small = np.asarray(small).astype(np.int64)
    named = (small >= 0) & (small < len(labelled.names))
    ignore = ignore_label(len(labelled.names))
    confidence = np.ones(small.shape, dtype=np.float32)
    shown = np.where(named, small, ignore)
    result = Segmentation(shown, labelled.names, confidence, image)
    legend = [
        (display_name(segment.name), percent(segment.fraction), label_colour(segment.label))
        for segment in result.segments[:LISTED]
    ]
    return Drawn(_picture(result.draw(legend=False)), tuple(legend))


def _shrink(photo: Photo) -> Image.Image:
    image = Image.fromarray(photo.image)
    image.thumbnail((SIDE, SIDE))
    return image


def _picture(image: Image.Image) -> str:
    """-> a data URL of a JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
