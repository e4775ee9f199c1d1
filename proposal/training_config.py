"""What a training of stage 1 needs to know."""

from __future__ import annotations

from dataclasses import dataclass, field

from proposal.criterion import CriterionConfig
from proposal.data.sources import DataConfig
from proposal.maskformer import MaskFormerConfig


@dataclass(frozen=True)
class TrainConfig:
    """How the network is trained; the defaults are the published ones of R-101c."""

    iterations: int = 120_000
    batch_size: int = 32  # over all devices
    lr: float = 2e-4
    backbone_lr_factor: float = 0.1
    weight_decay: float = 1e-4  # none on norms, embeddings, position tables
    warmup_iterations: int = 1500
    warmup_factor: float = 1e-6
    poly_power: float = 0.9
    clip_norm: float = 0.01  # of the whole model's gradient; 0 = not clipped
    ema_decay: float = 0.0  # of the averaged weights that are kept in the end; 0 = the last ones
    trunk_weights: str | None = None  # safetensors of a pretrained trunk to start from
    frozen: tuple[str, ...] = ()  # parameters whose names begin so stay as they are
    precision: str = "float32"  # or "bfloat16": the network's forward in mixed precision
    workers: int = 4  # processes that prepare crops, per device
    threads: int = 0  # of torch on the CPU; 0 = torch's own choice
    seed: int = 0
    log_iterations: int = 20  # between two lines of progress
    checkpoint_minutes: float = 10.0

    def __post_init__(self) -> None:
        for name in ("iterations", "batch_size", "log_iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} must be at least 1, got {getattr(self, name)}")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"train.precision must be float32 or bfloat16, got {self.precision!r}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"train.ema_decay must be in [0, 1), got {self.ema_decay}")


@dataclass(frozen=True)
class ProposalTraining:
    """The whole configuration of ``tools/train_net.py --stage proposal``."""

    name: str = "proposal"  # of the checkpoint that comes out
    proposer: MaskFormerConfig = field(default_factory=MaskFormerConfig)
    criterion: CriterionConfig = field(default_factory=CriterionConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    data: DataConfig = field(default_factory=DataConfig)
