"""What a training of stage 1 needs to know."""

from __future__ import annotations

from dataclasses import dataclass, field

from proposal.criterion import CriterionConfig
from proposal.data.source_config import DataConfig
from proposal.maskformer import MaskFormerConfig
from proposal.training_run import LoopConfig

# What a resumed run may have other values of: none of it changes what is learned, but for the
# number of iterations, with which the learning rate falls more slowly.
MAY_CHANGE = frozenset(
    {
        "name",
        "backbone",
        "data.folders",
        "data.validation",
        "train.iterations",
        "train.workers",
        "train.threads",
        "train.log_iterations",
        "train.checkpoint_minutes",
        "train.checkpoint_iterations",
        "train.keep_last",
        "train.evaluate_iterations",
    }
)


@dataclass(frozen=True)
class TrainConfig:
    """How the network is trained; the defaults are the published ones of R-101c."""

    iterations: int = 120_000
    batch_size: int = 32  # over all devices
    accumulate: int = (
        1  # a device's share goes through the network in so many parts, to save memory
    )
    lr: float = 2e-4
    backbone_lr_factor: float = 0.1
    weight_decay: float = 1e-4  # none on norms, embeddings, position tables
    warmup_iterations: int = 1500
    warmup_factor: float = 1e-6
    poly_power: float = 0.9
    clip_norm: float = 0.01  # of the whole model's gradient; 0 = not clipped
    ema_decay: float = 0.0  # of the averaged weights that are kept in the end; 0 = the last ones
    frozen: tuple[str, ...] = ()  # parameters whose names begin so stay as they are
    only: tuple[str, ...] = ()  # where given, all others stay as they are, too
    precision: str = "float32"  # or "bfloat16", "float16": the network's forward in mixed precision
    gradient_checkpointing: bool = False  # the trunk's blocks are computed twice, and not kept
    workers: int = 4  # processes that prepare crops, per device
    threads: int = 0  # of torch on the CPU; 0 = torch's own choice
    seed: int = 0
    log_iterations: int = 20  # between two lines of progress
    checkpoint_minutes: float = 10.0
    checkpoint_iterations: int = 0  # between two saves, too; 0 = by the clock alone
    keep_last: int = 2  # saves that are kept
    evaluate_iterations: int = 0  # between two validations on data.validation; 0 = none
    best_metric: str = "AR@100"  # of the validation: the model with the highest is kept in best/

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"train.iterations must be at least 1, got {self.iterations}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"train.ema_decay must be in [0, 1), got {self.ema_decay}")
        self.loop()  # checks what it shares with the other stage

    def loop(self) -> LoopConfig:
        """What the training's loop has to know of this."""
        return LoopConfig(
            iterations=self.iterations,
            batch_size=self.batch_size,
            precision=self.precision,
            accumulate=self.accumulate,
            clip_norm=self.clip_norm,
            average=self.ema_decay,
            seed=self.seed,
            log_iterations=self.log_iterations,
            checkpoint_minutes=self.checkpoint_minutes,
            checkpoint_iterations=self.checkpoint_iterations,
            keep_last=self.keep_last,
            evaluate_iterations=self.evaluate_iterations,
            best_metric=self.best_metric,
        )


@dataclass(frozen=True)
class BackboneStart:
    """Where the trunk's first weights come from."""

    # safetensors, .pth or .pkl of a pretrained trunk: detectron2's, torchvision's, Swin's own,
    # timm's; paths may start with a name of data.folders in braces
    weights: str | None = None


@dataclass(frozen=True)
class ProposalTraining:
    """The whole configuration of ``tools/train_net.py --stage proposal``."""

    name: str = "proposal"  # of the checkpoint that comes out
    proposer: MaskFormerConfig = field(default_factory=MaskFormerConfig)
    backbone: BackboneStart = field(default_factory=BackboneStart)
    criterion: CriterionConfig = field(default_factory=CriterionConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    data: DataConfig = field(default_factory=DataConfig)
