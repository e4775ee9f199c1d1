"""The training of a proposal network, in detectron2's engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from detectron2.engine import SimpleTrainer, create_ddp_model, hooks
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, JSONWriter, TensorboardXWriter
from torch import Tensor, nn
from torch.utils.data import DataLoader

from proposal.backbones import load_trunk
from proposal.checkpoint_files import load_strictly
from proposal.criterion import Criterion
from proposal.data.sources import DataConfig, expand, open_sources
from proposal.data.stream import Batch, CropStream, stack
from proposal.maskformer import MaskFormer, MaskFormerOutput
from proposal.optimizer import build_optimizer, build_schedule, freeze
from proposal.training_checkpoint import read_proposer, write_proposer
from proposal.training_config import ProposalTraining, TrainConfig
from proposal.training_hooks import (
    AverageWeights,
    ClipGradients,
    SaveState,
    StopOnSignal,
    Stopped,
    resume_from,
)


class TrainingStep(nn.Module):
    """A network with its loss, as detectron2's trainer wants it: batch in, losses out."""

    def __init__(self, network: MaskFormer, criterion: Criterion, precision: str) -> None:
        super().__init__()
        self.network = network
        self.criterion = criterion
        self.bfloat16 = precision == "bfloat16"
        config = network.config
        self.register_buffer("mean", torch.tensor(config.pixel_mean)[:, None, None], False)
        self.register_buffer("std", torch.tensor(config.pixel_std)[:, None, None], False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """B crops (B, 3, S, S) -> the loss's weighted terms."""
        device = self.mean.device
        images = (batch.images.to(device).float() - self.mean) / self.std
        targets = [type(t)(t.masks.to(device), t.labels.to(device)) for t in batch.targets]
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16):
            output = self.network(images)
        return self.criterion(in_float32(output), targets)


def in_float32(output: MaskFormerOutput) -> MaskFormerOutput:
    """The same output in full precision, in which losses are taken."""
    return replace(
        output,
        mask_logits=output.mask_logits.float(),
        object_logits=output.object_logits.float(),
        auxiliary=tuple(in_float32(layer) for layer in output.auxiliary),
    )


@dataclass(frozen=True)
class Training:
    """The parts of a training that --resume restores, with the trainer that moves them."""

    trainer: SimpleTrainer
    network: MaskFormer
    average: AverageWeights | None
    parts: dict

    @property
    def best(self) -> nn.Module:
        """The network that is kept in the end."""
        return self.average.average if self.average else self.network


def train(
    config: ProposalTraining, output: Path, *, init: Path | None = None, resume: bool = False
) -> None:
    """Train, and leave in ``output`` a checkpoint folder with the proposer's part.

    ``init``: a checkpoint whose proposer is started from. ``resume``: go on with what ``output``
    holds, if it holds something. The checkpoint is renewed at every save, so a stop leaves one.

    Raises:
        FileNotFoundError: a file or folder is missing.
        ValueError: a setting, a file or the state to resume does not fit.
        Stopped: by the user; all is saved.
    """
    if config.proposer.classifier != "objectness":
        raise ValueError(
            "only the objectness classifier is trained here so far, "
            f"got proposer.classifier={config.proposer.classifier!r}"
        )
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    torch.manual_seed(config.train.seed + comm.get_rank())
    network = build_network(config, init)
    training = _build(config, network)
    start = resume_from(output, training.parts, resume)
    trainer = training.trainer
    trainer.data_loader = build_loader(config.data, config.train, start)
    output.mkdir(parents=True, exist_ok=True)
    save = _add_hooks(config, training, output)
    try:
        trainer.train(start, config.train.iterations)
    except Stopped:
        if save is not None:
            save.save_interrupted(trainer.iter + 1)
        raise


def build_network(config: ProposalTraining, init: Path | None) -> MaskFormer:
    """The network at the start of a training."""
    network = MaskFormer(config.proposer)
    if init is not None:
        load_strictly(network, read_proposer(init)[1], str(init))
    elif config.train.trunk_weights is not None:
        load_trunk(network.backbone, expand(config.train.trunk_weights, config.data))
    freeze(network, config.train.frozen)
    return network.to("cuda" if torch.cuda.is_available() else "cpu")


def build_loader(data: DataConfig, config: TrainConfig, start: int) -> DataLoader:
    """Batches from iteration ``start`` on, this process's share of each."""
    world, rank = comm.get_world_size(), comm.get_rank()
    if config.batch_size % world:
        raise ValueError(
            f"train.batch_size must be a multiple of the {world} devices, got {config.batch_size}"
        )
    sizes = {"batches": config.iterations, "batch_size": config.batch_size}
    stream = CropStream(open_sources(data), data, seed=config.seed, **sizes)
    return DataLoader(
        stream,
        batch_size=config.batch_size // world,
        sampler=range(start * config.batch_size + rank, len(stream), world),
        num_workers=config.workers,
        collate_fn=stack,
        persistent_workers=config.workers > 0,
        generator=torch.Generator(),  # else its start moves torch's own, and a resumed one differs
    )


def _build(config: ProposalTraining, network: MaskFormer) -> Training:
    step = TrainingStep(network, Criterion(config.criterion), config.train.precision)
    step.to(next(network.parameters()).device)
    optimizer = build_optimizer(network, config.train)
    trainer = SimpleTrainer(create_ddp_model(step), [], optimizer)
    schedule = build_schedule(optimizer, config.train)
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    average = None
    if config.train.ema_decay:
        average = AverageWeights(network, config.train.ema_decay)
        parts["average"] = average.average
    return Training(trainer, network, average, parts)


def _add_hooks(config: ProposalTraining, training: Training, output: Path) -> SaveState | None:
    """Register everything that happens between steps; the main process alone writes files."""
    trainer, settings = training.trainer, config.train
    trainer.register_hooks([hooks.IterationTimer(warmup_iter=1)])
    if settings.clip_norm:
        trainer.register_hooks([ClipGradients(training.network, settings.clip_norm)])
    schedule = training.parts["schedule"]
    trainer.register_hooks([hooks.LRScheduler(scheduler=schedule), training.average])
    save = None
    if comm.is_main_process():
        write = partial(_write_best, output, training, config)
        save = SaveState(output, training.parts, settings.checkpoint_minutes, write)
        writers = [
            CommonMetricPrinter(settings.iterations),
            JSONWriter(str(output / "metrics.jsonl")),
            TensorboardXWriter(str(output)),
        ]
        trainer.register_hooks([save, hooks.PeriodicWriter(writers, settings.log_iterations)])
    trainer.register_hooks([StopOnSignal()])
    return save


def _write_best(
    output: Path, training: Training, config: ProposalTraining, iterations: int
) -> None:
    write_proposer(output, training.best, config, iterations)
