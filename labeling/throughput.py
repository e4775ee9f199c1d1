"""How fast a model labels, with what memory."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import skimage.data
from PIL import Image

from labeling.captions import Caption, CaptionedImage
from labeling.label_config import LabelConfig, fingerprint_model
from labeling.local_engine import LocalEngine
from labeling.self_label import choose_devices
from labeling.shards import Shard
from labeling.worker import Work

COCO_PHOTOS = 118_287  # of COCO's train2017
ROUNDS = 3  # shards for each worker; the first warms it up
CAPTIONS = {  # of scikit-image's photos, five each as in COCO
    "astronaut": (
        "A woman in an orange suit smiles in front of a flag.",
        "An astronaut with short hair holds a helmet.",
        "A portrait of an astronaut beside a model of a space shuttle.",
        "A smiling woman who wears a space suit with patches.",
        "A person in a suit and a flag on the wall behind her.",
    ),
    "chelsea": (
        "A cat looks at the camera.",
        "The face of a tabby cat with green eyes.",
        "A cat with whiskers lies on a blanket.",
        "A close view of the nose and the ears of a cat.",
        "A kitten with striped fur rests on a bed.",
    ),
    "coffee": (
        "A cup of coffee on a saucer with a spoon.",
        "A coffee cup stands on a wooden table.",
        "An espresso in a brown cup next to a spoon.",
        "A hot drink on a table in a cafe.",
        "A mug on a plate.",
    ),
    "rocket": (
        "A rocket stands on its launch pad at night.",
        "A white rocket between towers under a dark sky.",
        "Lights shine on a rocket and a tower.",
        "A spacecraft waits for its launch near the sea.",
        "Towers with lamps around a rocket.",
    ),
}


@dataclass(frozen=True)
class Throughput:
    """What labelling takes on this machine."""

    workers: int
    device: str
    photos_per_second: float  # by all workers together
    peak_mib: float  # of the largest worker

    def sentence(self, model: str) -> str:
        """For people, with what it means for COCO."""
        hours = COCO_PHOTOS / self.photos_per_second / 3600
        return (
            f"labelling with {model}: {self.photos_per_second:.2f} photos/s by {self.workers} "
            f"worker(s) on {self.device}, peak memory {self.peak_mib:,.0f} MiB each; COCO's "
            f"{COCO_PHOTOS:,} photos take {hours:,.1f} hours at this pace"
        )


def measure_throughput(
    model: str, *, device: str = "auto", workers: int | None = None
) -> Throughput:
    """Label a few photos over and over; starting the workers does not count.

    Raises:
        FileNotFoundError, ValueError, OSError: as ``LabelConfig.load_segmentor``.
    """
    config = LabelConfig(model)
    devices = choose_devices(device, workers, config.threads)
    with tempfile.TemporaryDirectory(prefix="maskclip_throughput_") as folder:
        entries = tuple(_write_photo(Path(folder), name) for name in CAPTIONS)
        shards = [Shard(place, entries) for place in range(ROUNDS * len(devices))]
        work = Work(config, Path(folder), fingerprint_model(config.load_segmentor("cpu")))
        ends = []
        for _ in LocalEngine(work, devices).label(shards, _tell_nobody):
            ends.append(time.perf_counter())
    warm = len(devices)
    pace = len(CAPTIONS) * (len(ends) - warm) / (ends[-1] - ends[warm - 1])
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    peak_mib = peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return Throughput(len(devices), devices[0].split(":")[0], pace, peak_mib)


def _write_photo(folder: Path, name: str) -> CaptionedImage:
    """One of scikit-image's photos as a file -> its entry."""
    Image.fromarray(getattr(skimage.data, name)()).save(folder / f"{name}.jpg", quality=95)
    said = tuple(Caption(f"{name}#{place}", text) for place, text in enumerate(CAPTIONS[name]))
    return CaptionedImage(f"{name}.jpg", name, said)


def _tell_nobody(photos: int, pairs: int) -> None:
    del photos, pairs
