"""What a training of the dense head can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from proposal.training_run import LoopConfig

# What a resumed run may have other values of: nothing of it changes what is learned, but for the
# number of steps, with which the learning rate falls more slowly.
MAY_CHANGE = frozenset(
    {
        "data.evaluate",
        "data.cache",
        "train.steps",
        "train.threads",
        "train.log_period",
        "train.checkpoint_minutes",
        "train.keep_last",
    }
)


@dataclass(frozen=True)
class HeadConfig:
    """The head; the CLIP that gets it, or has it already, is that of ``--init``.

    Raises:
        ValueError: a number is out of its range.
    """

    deeplab: str = (
        ""  # safetensors file of the DeepLab whose trunk reads the photos; for a new head
    )
    width: int = 512  # of its hidden layer
    # What DeepLab's classes are called, the first (background) left out: the new head learns to
    # tell them apart as DeepLab does, on every cell. None = nothing is learned from them
    rows: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"clip.width must be at least 1, got {self.width}")


@dataclass(frozen=True)
class LabelSource:
    """A folder of ``<stem>.png`` maps, whose values are indices into names, with their photos.

    Raises:
        ValueError: one of the three is not named.
    """

    labels: str = ""
    images: str = ""
    names: str = ""  # a text file, one name a line
    first_label: int = 0  # value of the first name; smaller ones have none (ADE-150's own PNGs: 1)
    ignore_label: int | None = None  # of pixels without a name: 255, or 65535 above 255 names
    weight: float = 1.0  # share of the cells, relative to the other sources

    def __post_init__(self) -> None:
        missing = [key for key in ("labels", "images", "names") if not getattr(self, key)]
        if missing:
            raise ValueError(
                f"a source of cells must have labels, images, names: {missing[0]} is not set"
            )

    @property
    def title(self) -> str:
        """What measurements on it are called."""
        return Path(self.labels).resolve().parent.name


@dataclass(frozen=True)
class CellConfig:
    """Where cells with names come from.

    Raises:
        ValueError: a number is out of its range.
    """

    sources: tuple[LabelSource, ...] = ()
    cells: int = 4096  # of each photo that are kept, drawn at random; maps have some 825
    cache: str = ""  # folder for what the trunk sees; empty = computed at each start
    leave_out_nouns: str = ""  # text file, one a line: these teach nothing, nor do such rows
    evaluate: tuple[LabelSource, ...] = ()  # to measure on

    def __post_init__(self) -> None:
        if self.cells < 1:
            raise ValueError(f"data.cells must be at least 1, got {self.cells}")


@dataclass(frozen=True)
class DenseTrainConfig:
    """The optimisation."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 150
    steps: int = 2000
    batch_size: int = 1536  # cells, over all processes
    cells_per_photo: int = 48  # of them
    logit_scale: float = 10.0  # of cosines, in the loss of names
    # That loss sees the nouns' texts without their mean, which tells none from another
    centre_texts: bool = False
    label_smoothing: float = 0.1
    balance: float = 0.4  # a cell counts in proportion to (cells of its noun) ** -balance
    rows_weight: float = 4.0  # of the loss of DeepLab's classes
    rows_scale: float = 20.0  # of cosines, in that loss
    average: float = 0.995  # decay of the running average of weights that is kept; 0 = the last
    seed: int = 0
    log_period: int = 100
    checkpoint_minutes: float = 2.0  # between saves
    keep_last: int = 1  # saves that are kept
    threads: int = 0  # of torch; 0 = as many as it likes

    def __post_init__(self) -> None:
        self.loop()
        if self.steps < 1:
            raise ValueError(f"train.steps must be at least 1, got {self.steps}")
        per_photo = self.cells_per_photo
        if per_photo < 1 or self.batch_size % per_photo:
            raise ValueError(
                "train.batch_size must be a multiple of train.cells_per_photo, got "
                f"{self.batch_size} and {per_photo}"
            )
        for name in ("logit_scale", "rows_scale"):
            if not 1 <= getattr(self, name) <= 100:
                raise ValueError(f"train.{name} must be in [1, 100], got {getattr(self, name)}")

    def loop(self) -> LoopConfig:
        """What the training's loop has to know of this."""
        return LoopConfig(
            iterations=self.steps,
            batch_size=self.batch_size,
            average=self.average,
            seed=self.seed,
            log_iterations=self.log_period,
            checkpoint_minutes=self.checkpoint_minutes,
            keep_last=self.keep_last,
        )


@dataclass(frozen=True)
class DenseTraining:
    """A whole training of a dense head."""

    clip: HeadConfig = field(default_factory=HeadConfig)
    data: CellConfig = field(default_factory=CellConfig)
    train: DenseTrainConfig = field(default_factory=DenseTrainConfig)
