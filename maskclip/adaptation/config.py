"""What a training of the image tower can be told."""

from __future__ import annotations

from dataclasses import dataclass, field

from maskclip.templates import load_templates

MODES = ("ft", "mpt", "joint")
LOSSES = ("vocabulary", "multi_positive", "infonce")


@dataclass(frozen=True)
class TowerConfig:
    """Which CLIP is trained; with ``--init`` what is left empty stays as it was there."""

    model: str = ""  # anything build_clip takes; not with --init
    trunk: str = ""  # safetensors file that a new hybrid tower's trunk starts from
    prompt_depth: int | None = None  # L; prompts that are not there yet are made
    average_with: tuple[str, ...] = ()  # runs whose weights are averaged with those of --init
    templates: str = ""  # of the nouns, in training and later
    background: str = ""  # of the crops, in training and later
    background_strength: float | None = None
    box_margin: float | None = None


@dataclass(frozen=True)
class PairSource:
    """One folder of pairs and how it is drawn from."""

    folder: str = ""
    weight: float = 1.0  # share of the crops, relative to the other sources
    balance: float = 0.5  # a pair is drawn in proportion to (pairs of its noun) ** -balance
    exclusive: bool = False  # its nouns are a closed list: none is another word for another
    views: int = 1  # crops of each region that a feature cache holds
    max_per_noun: int = 0  # pairs of a noun, the first ones in a shuffled order; 0 = all
    min_score: float = -1.0  # pairs whose cosine is lower are left out
    min_area: int = 1  # pixels; smaller regions are left out
    area_range: tuple[float, float] = (0.9, 1.0)  # of the box that a training crop shows


@dataclass(frozen=True)
class DataConfig:
    """Where the pairs are and how training crops are varied."""

    sources: tuple[PairSource, ...] = ()
    ratio_range: tuple[float, float] = (0.75, 4 / 3)  # change of a training crop's aspect
    flip: bool = True  # half of the training crops are mirrored
    brightness: float = 0.0  # training crops are made up to this share lighter or darker
    coarsen: float = 0.0  # share of the training crops shown as small objects are: blurred
    hold_out: float = 0.0  # share of the photos that training leaves out, chosen by their id
    cache: str = ""  # folder for trunk features, computed once; empty = crops are made anew
    evaluate: tuple[str, ...] = ()  # folders of pairs to measure on, among exclusive nouns


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation (SPEC 4; defaults are those of the published fine-tuning).

    Raises:
        ValueError: a value that is not among the possible ones.
    """

    mode: str = "ft"  # ft: image tower | mpt: prompts alone | joint: both; always the logit scale
    loss: str = "multi_positive"  # or infonce (published), vocabulary (against all nouns)
    freeze_trunk: bool = False  # of a hybrid; with data.cache it is frozen anyway
    trunk_factor: float = 1.0  # learning rate of a hybrid's trunk relative to the rest
    learning_rate: float = 5e-6
    weight_decay: float = 0.2  # none on gains, biases, embeddings, prompts
    prompt_learning_rate: float = 0.0  # of the prompts in mode joint; 0 = learning_rate
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    clip_gradient: float = 0.0  # largest gradient norm; 0 = as it comes
    warmup_steps: int = 100
    steps: int = 1000  # 0 = leave the CLIP as it starts
    batch_size: int = 128
    label_smoothing: float = 0.0
    synonym_cosine: float = 0.9  # nouns whose texts are closer are not each other's negatives
    mask_dropout: float = 0.0  # share of crops shown without mask prompts
    dropout: float = 0.0  # on the features of a frozen trunk, whole channels
    average: float = 0.0  # decay of the running average of weights that is kept; 0 = the last
    seed: int = 0
    log_period: int = 50
    checkpoint_minutes: float = 5.0  # between saves
    threads: int = 0  # of torch; 0 = as many as it likes
    evaluate_period: int = 0  # 0 = at the end only

    def __post_init__(self) -> None:
        for field_name, value, known in (("mode", self.mode, MODES), ("loss", self.loss, LOSSES)):
            if value not in known:
                raise ValueError(
                    f"train.{field_name} must be one of {', '.join(known)}, got {value!r}"
                )
        if self.steps < 0 or self.batch_size < 1:
            got = f"{self.steps} and {self.batch_size}"
            raise ValueError(
                f"train.steps must be 0 or more, train.batch_size at least 1, got {got}"
            )


@dataclass(frozen=True)
class AdaptConfig:
    """A whole training of stage 2: which CLIP, on which pairs, how."""

    clip: TowerConfig = field(default_factory=TowerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if self.clip.templates:
            load_templates(self.clip.templates)  # an unknown one is refused now, not in an hour
