"""What a step of stage 1's training costs, on random photos."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import torch
from detectron2.engine import HookBase

from proposal.criterion import Criterion
from proposal.data.stream import Batch
from proposal.matcher import Target
from proposal.optimizer import build_optimizer
from proposal.training import build_network
from proposal.training_config import BackboneStart, ProposalTraining
from proposal.training_loop import Trainer
from proposal.training_metrics import peak_memory_mib
from proposal.training_processes import own_device
from proposal.training_step import TrainingStep

NAMES = 171  # COCO-Stuff's
EMBED_DIM = 512


@dataclass(frozen=True)
class StepCost:
    """Of one step: the fastest of those measured, and the process's peak memory over all."""

    seconds: float
    cpu_seconds: float  # of all the process's threads: hardly more where others use the machine
    peak_mib: float


def measure_step(
    config: ProposalTraining, *, images: int, masks: int = 8, repeats: int = 3
) -> StepCost:
    """A step with ``images`` random crops of ``masks`` masks each, in a process of its own.

    Raises:
        ValueError, RuntimeError: the configuration cannot be trained here.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as process:
        return process.submit(_measure, config, images, masks, repeats).result()


def random_batch(images: int, masks: int, side: int, classes: int) -> Batch:
    """Noise with box-shaped masks; labels are below ``classes``."""
    generator = torch.Generator().manual_seed(0)
    targets = []
    for _ in range(images):
        corners = torch.rand(masks, 2, 2, generator=generator).sort(1).values * side  # (M, 2, 2)
        grid = torch.arange(side)
        rows = (grid >= corners[:, :1, 0]) & (grid <= corners[:, 1:, 0])  # (M, S)
        columns = (grid >= corners[:, :1, 1]) & (grid <= corners[:, 1:, 1])  # (M, S)
        labels = torch.randint(0, classes, (masks,), generator=generator)
        targets.append(Target(rows[:, :, None] & columns[:, None], labels))
    pixels = torch.randint(0, 256, (images, 3, side, side), generator=generator)
    return Batch(pixels.to(torch.uint8), targets)


def _measure(config: ProposalTraining, images: int, masks: int, repeats: int) -> StepCost:
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    text = config.proposer.classifier != "objectness"
    proposer = replace(config.proposer, training_names=NAMES if text else 0, embed_dim=EMBED_DIM)
    config = replace(config, proposer=proposer, backbone=BackboneStart())
    network = build_network(config, None, torch.randn(NAMES, EMBED_DIM) if text else None)
    step = TrainingStep(network, Criterion(config.criterion), config.train.precision)
    trainer = Trainer(
        step.to(own_device()),
        build_optimizer(network, config.train),
        precision=config.train.precision,
        accumulate=config.train.accumulate,
        clip_norm=config.train.clip_norm,
        prepare=step.share_counts,
    )
    batch = random_batch(images, masks, config.data.sides[0], NAMES if text else 1)
    trainer.data_loader = [batch] * ((repeats + 1) * config.train.accumulate)
    clock = _Clock()
    trainer.register_hooks([clock])
    trainer.train(0, repeats + 1)
    seconds, cpu_seconds = (min(each[1:]) for each in (clock.seconds, clock.cpu_seconds))
    return StepCost(seconds, cpu_seconds, peak_memory_mib())  # the first step warms up


class _Clock(HookBase):
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []

    def before_step(self) -> None:
        self.began = _now(), time.process_time()

    def after_step(self) -> None:
        self.seconds.append(_now() - self.began[0])
        self.cpu_seconds.append(time.process_time() - self.began[1])


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
