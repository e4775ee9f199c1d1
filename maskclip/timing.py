"""How long each stage of a model takes, with what memory."""

from __future__ import annotations

import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.factory import get_model_config

from maskclip.clip_config import ClipConfig
from maskclip.clip_models import build_clip
from maskclip.segmentor import Segmentor, SegmentorConfig
from proposal.heap import keep_freed_memory
from proposal.maskformer import MaskFormer, MaskFormerConfig
from proposal.maskformer_proposer import MaskFormerProposer
from proposal.peak_memory import peak_memory

ROWS = {  # of the table, in milliseconds
    "text_cold": "text, first time (ms)",
    "text_warm": "text, from the cache (ms)",
    "propose": "proposal (ms)",
    "crop": "crops (ms)",
    "clip": "CLIP (ms)",
    "assemble": "assemble (ms)",
    "total": "photo, all stages (ms)",
    "regions": "regions",
    "peak_mib": "peak memory (MiB)",
}


@dataclass(frozen=True)
class Job:
    """What is to be measured: one model, one photo, one list of names."""

    model: str  # a packaged name, a folder, or one of FULL_SIZE
    image: np.ndarray  # (H, W, 3) uint8 RGB
    names: Sequence[str]
    repeats: int = 3  # of the photo; the fastest counts
    device: str = "cpu"


def build_full_size(device: str, *, compat: bool) -> Segmentor:
    """R-101c + ViT-B/16 with mask prompts: the published sizes, random weights."""
    torch.manual_seed(0)
    network = MaskFormer(MaskFormerConfig(classifier="text"))
    name = "ViT-B-16-quickgelu"
    clip = build_clip(ClipConfig(name=name, model=get_model_config(name), prompt_depth=3), device)
    # Random masks are neither empty nor small: every query's crop is the whole photo
    config = SegmentorConfig(compat=compat, fusion_weight=0.7, mask_threshold=0.0)
    return Segmentor(MaskFormerProposer(network.to(device)), clip, config)


FULL_SIZE: dict[str, Callable[[str], Segmentor]] = {
    "full-size": partial(build_full_size, compat=False),
    "full-size-compat": partial(build_full_size, compat=True),
}


def sample_names(count: int) -> list[str]:
    """``count`` names spread over ImageNet's thousand: birds, dogs, vehicles, tools, food.

    Raises:
        ValueError: more than there are.
    """
    known = list(dict.fromkeys(open_clip.IMAGENET_CLASSNAMES))  # two are said twice
    if not 1 <= count <= len(known):
        raise ValueError(f"names must be 1 to {len(known)} in number, got {count}")
    return known[:: len(known) // count][:count]


def measure(job: Job) -> dict[str, float]:
    """A number for each of ``ROWS``; the names are encoded in one new process, read in another."""
    with tempfile.TemporaryDirectory(prefix="maskclip_benchmark_") as cache:
        cold = _in_new_process(_measure_text, job, cache)
        return {"text_cold": cold, **_in_new_process(_measure_photo, job, cache)}


def format_table(measured: dict[str, dict[str, float]]) -> str:
    """Models with a number for each of ``ROWS`` -> a Markdown table, a column for each model."""
    cells = {
        title: [_format(each[row]) for each in measured.values()] for row, title in ROWS.items()
    }
    widths = [
        max(len(text) for text in column) for column in zip(measured, *cells.values(), strict=True)
    ]
    left = max(len(title) for title in cells)
    rule = ["-" * (width - 1) + ":" for width in widths]
    lines = {"".ljust(left): list(measured), "-" * left: rule, **cells}
    return "\n".join(
        f"| {title.ljust(left)} | {' | '.join(map(str.rjust, numbers, widths))} |"
        for title, numbers in lines.items()
    )


def describe_machine() -> str:
    """Processor, threads, versions: what the numbers depend on."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = models[0].partition(":")[2].strip() if models else processor
    accelerator = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{processor}, {torch.get_num_threads()} threads{accelerator}, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def _in_new_process(function: Callable[[Job, str], Any], job: Job, cache: str) -> Any:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, job, cache).result()


def _build(job: Job, cache: str) -> Segmentor:
    os.environ["MASKCLIP_CACHE"] = cache  # of this worker process only
    if job.device == "cpu":
        keep_freed_memory()  # as the commands do
    if job.model in FULL_SIZE:
        return FULL_SIZE[job.model](job.device)
    return Segmentor.from_pretrained(job.model, device=job.device)


def _measure_text(job: Job, cache: str) -> float:
    """Milliseconds to encode the names; building the model does not count."""
    segmentor = _build(job, cache)
    start = time.perf_counter()
    segmentor.clip.encode_names(job.names)
    return 1000 * (time.perf_counter() - start)


def _measure_photo(job: Job, cache: str) -> dict[str, float]:
    segmentor = _build(job, cache)
    start = time.perf_counter()
    segmentor.clip.encode_names(job.names)
    text_warm = 1000 * (time.perf_counter() - start)
    results = [
        segmentor.segment(job.image, job.names, return_regions=True) for _ in range(job.repeats)
    ]
    fastest = min(results, key=lambda result: result.milliseconds["total"])
    regions = int(fastest.regions.keep.sum())
    return {
        "text_warm": text_warm,
        **fastest.milliseconds,
        "regions": regions,
        "peak_mib": peak_memory(),
    }


def _format(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}"
