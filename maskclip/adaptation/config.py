"""What a training of the image tower can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from maskclip.hybrid import TRUNKS
from maskclip.templates import load_templates
from proposal.training_run import LoopConfig

# What a resumed run may have other values of: nothing of it changes what is learned, but for the
# number of steps, with which the learning rate falls more slowly.
MAY_CHANGE = frozenset(
    {
        "data.evaluate",
        "data.cache",
        "data.context_cache",
        "train.steps",
        "train.epochs",
        "train.prompt_steps",
        "train.workers",
        "train.threads",
        "train.log_period",
        "train.checkpoint_minutes",
        "train.checkpoint_steps",
        "train.keep_last",
        "train.evaluate_period",
    }
)
MODES = ("ft", "mpt", "ft_mpt", "joint")
LOSSES = ("multi_positive", "infonce", "vocabulary")


@dataclass(frozen=True)
class TowerConfig:
    """Which CLIP is trained; with ``--init`` what is left empty stays as it was there."""

    model: str = ""  # anything build_clip takes; not with --init
    # safetensors file, or CLIP with such a trunk, that a new hybrid tower's trunk starts from
    trunk: str = ""
    prompt_depth: int | None = None  # L; prompts that are not there yet are made
    average_with: tuple[str, ...] = ()  # runs whose weights are averaged with those of --init
    templates: str = ""  # of the nouns, in training and later
    background: str = ""  # of the crops, in training and later
    background_strength: float | None = None
    box_margin: float | None = None
    pixel_prompt: float | None = None  # alpha of a prompt on the crop's pixels; 0 = none
    text_context: int | None = None  # learned tokens before each name; 0 = the templates
    # safetensors file of the trunk that is to read the whole photos (docs/adapting.md)
    photo_context: str = ""
    # TensorFlow.js graph model (JSON) of the detector that is to read them, too
    photo_detector: str = ""


@dataclass(frozen=True)
class PairSource:
    """One set of pairs and how it is drawn from: a folder of pairs, COCO instances or label PNGs.

    Raises:
        ValueError: none of the three is named, or several, or one is incomplete.
    """

    folder: str = ""  # of pairs (Parquet), as tools/self_label.py writes it …
    instances: str = ""  # … or a COCO instances JSON …
    labels: str = ""  # … or a folder of label PNGs, whose values are indices into names
    names: str = ""  # of the label PNGs: a text file, one name a line
    first_label: int = 0  # value of the first name; smaller ones have none (ADE-150's own PNGs: 1)
    ignore_label: int | None = None  # of pixels without a name: 255, or 65535 above 255 names
    images: str = ""  # photos of the instances or labels
    photos: str = ""  # text file of photo names: only these
    leave_out: str = ""  # text file of photo names: not these
    weight: float = 1.0  # share of the crops, relative to the other sources
    balance: float = 0.5  # a pair is drawn in proportion to (pairs of its noun) ** -balance
    exclusive: bool = False  # its nouns are a closed list: none is another word for another
    views: int = 1  # crops of each region that a feature cache holds
    max_per_noun: int = 0  # pairs of a noun, the first ones in a shuffled order; 0 = all
    min_score: float = -1.0  # pairs whose cosine is lower are left out
    min_area: int = 1  # pixels; smaller regions are left out
    area_range: tuple[float, float] = (0.9, 1.0)  # of the box that a training crop shows

    def __post_init__(self) -> None:
        kinds = {key: getattr(self, key) for key in ("folder", "instances", "labels")}
        given = [key for key, value in kinds.items() if value]
        if len(given) != 1:
            raise ValueError(
                "each of data.sources must name a folder (of pairs), instances (COCO JSON) or "
                f"labels (PNGs), got {' and '.join(given) or 'none of them'}"
            )
        needed = {"folder": (), "instances": ("images",), "labels": ("images", "names")}[given[0]]
        missing = [key for key in needed if not getattr(self, key)]
        if missing:
            raise ValueError(f"{given[0]}: {kinds[given[0]]} also needs {' and '.join(missing)}")

    @property
    def title(self) -> str:
        """What measurements on it are called."""
        path = Path(self.folder or self.instances or self.labels)
        return path.stem if self.instances else path.name


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
    context_cache: str = ""  # folder for what is seen of the photos; empty = computed at each start
    leave_out_nouns: str = ""  # text file, one a line: pairs with these nouns teach nothing
    evaluate: tuple[PairSource, ...] = ()  # pairs to measure on, among exclusive nouns


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation (SPEC 4; defaults are those of the published fine-tuning).

    Raises:
        ValueError: a value that is not among the possible ones.
    """

    mode: str = "ft"  # ft: image tower | mpt: prompts | joint: both | ft_mpt: one after the other
    loss: str = "multi_positive"  # or infonce (published), vocabulary (against all nouns)
    symmetric: bool = True  # nouns look for their regions, too (not with vocabulary)
    freeze_trunk: bool = False  # of a hybrid; with data.cache it is frozen anyway
    # First stages of a hybrid's trunk that stay as they are, its stem with them (MobileNetV2 and
    # EfficientNet have 7): nothing is kept of them for the way back, which halves a step's time
    freeze_stages: int = 0
    trunk_factor: float = 1.0  # learning rate of a hybrid's trunk relative to the rest
    learning_rate: float = 5e-6
    weight_decay: float = 0.2  # none on gains, biases, embeddings, prompts
    prompt_learning_rate: float = 0.0  # in mode joint and in ft_mpt's second part; 0 = as above
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    clip_gradient: float = 0.0  # largest gradient norm; 0 = as it comes
    warmup_steps: int = 100
    steps: int = 1000  # 0 = leave the CLIP as it starts
    epochs: float = 0.0  # instead of steps: as many as show each pair so often on average
    prompt_steps: int = 0  # of ft_mpt's second part; 0 = as many as the first
    batch_size: int = 128  # over all processes; contrast is taken over all of it
    accumulate: int = 1  # parts in which a process encodes its share: less memory, same gradient
    grad_checkpointing: bool = False  # of the tower's blocks: less memory, a third more time
    precision: str = "float32"  # or bfloat16, float16: the tower in mixed precision
    label_smoothing: float = 0.0
    # What cosines are multiplied with in the loss, held there; 0 = the CLIP's own, which is learned
    logit_scale: float = 0.0
    # The loss sees the nouns' texts without their mean, which tells none from another; what is
    # learned is used with whole texts (the mean adds the same to all names of a region)
    centre_texts: bool = False
    synonym_cosine: float = 0.9  # nouns whose texts are closer are not each other's negatives
    mask_dropout: float = 0.0  # share of crops shown without mask prompts
    context_dropout: float = 0.0  # share of crops shown without what is seen of their photos
    dropout: float = 0.0  # on the features of a frozen trunk, whole channels
    average: float = 0.0  # decay of the running average of weights that is kept; 0 = the last
    seed: int = 0
    workers: int = 4  # processes that cut crops, per training process; 0 = in that process itself
    log_period: int = 50
    checkpoint_minutes: float = 5.0  # between saves
    checkpoint_steps: int = 0  # between saves, too; 0 = by the clock alone
    keep_last: int = 2  # saves that are kept
    threads: int = 0  # of torch; 0 = as many as it likes
    evaluate_period: int = 0  # 0 = at the end only
    best_metric: str = ""  # with evaluate_period, the best CLIP is kept; "" = the first top1

    def __post_init__(self) -> None:
        for field_name, value, known in (("mode", self.mode, MODES), ("loss", self.loss, LOSSES)):
            if value not in known:
                raise ValueError(
                    f"train.{field_name} must be one of {', '.join(known)}, got {value!r}"
                )
        self.loop()  # checks what it shares with the other stage
        if self.logit_scale and not 1 <= self.logit_scale <= 100:
            raise ValueError(
                f"train.logit_scale must be 0 (learned) or in [1, 100], got {self.logit_scale}"
            )
        lowest = {"batch_size": 1, "accumulate": 1}
        for name in ("steps", "epochs", "prompt_steps", "workers", "freeze_stages", *lowest):
            least, value = lowest.get(name, 0), getattr(self, name)
            if value < least:
                raise ValueError(f"train.{name} must be {least} or more, got {value}")

    def loop(self) -> LoopConfig:
        """What the training's loop has to know of this; ``accumulate`` is the teacher's matter."""
        return LoopConfig(
            iterations=self.steps,
            batch_size=self.batch_size,
            precision=self.precision,
            clip_norm=self.clip_gradient,
            average=self.average,
            seed=self.seed,
            log_iterations=self.log_period,
            checkpoint_minutes=self.checkpoint_minutes,
            checkpoint_iterations=self.checkpoint_steps,
            keep_last=self.keep_last,
            evaluate_iterations=self.evaluate_period,
            best_metric=self.best_metric,
        )


@dataclass(frozen=True)
class ClassifierConfig:
    """A classifier of closed classes whose knowledge of how things look is to be learned, too.

    Raises:
        ValueError: a weight below 0, or one without the files it needs.
    """

    weight: float = 0.0  # of its loss, 1 - cosine to what it makes of a region; 0 = none
    # safetensors file in timm's names, or EfficientNet-Lite's .pth, with the classifier; crops
    # must suit it as the tower reads them, in [-1, 1]
    weights: str = ""
    names: str = ""  # text file of its classes' names in its order, one a line
    trunk: str = ""  # its architecture: "" MobileNetV2 1.0; lite0, lite1, lite2: EfficientNet-Lite

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"classifier.weight must be 0 or more, got {self.weight}")
        if self.weight and not (self.weights and self.names):
            raise ValueError(
                "classifier.weight needs classifier.weights and classifier.names: give the files, "
                "or set it to 0"
            )
        if self.trunk not in TRUNKS:
            raise ValueError(
                f"classifier.trunk must be one of {sorted(TRUNKS)}, got {self.trunk!r}"
            )


@dataclass(frozen=True)
class AdaptConfig:
    """A whole training of stage 2: which CLIP, on which pairs, how.

    Raises:
        ValueError: the parts do not go together.
    """

    clip: TowerConfig = field(default_factory=TowerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)

    def __post_init__(self) -> None:
        if self.clip.templates:
            load_templates(self.clip.templates)  # an unknown one is refused now, not in an hour
        clip = self.clip
        if self.train.mode == "ft_mpt" and not (
            clip.prompt_depth or clip.pixel_prompt or clip.text_context
        ):
            raise ValueError(
                "train.mode 'ft_mpt' ends by training prompts: set clip.prompt_depth (3 as "
                "published), clip.pixel_prompt or clip.text_context"
            )
        if self.train.centre_texts and clip.text_context:
            raise ValueError(
                "train.centre_texts needs texts that stay as they are, which clip.text_context "
                "changes: set one of them only"
            )
        if self.data.cache and clip.pixel_prompt:
            raise ValueError(
                "data.cache keeps what the trunk makes of the pixels, which clip.pixel_prompt "
                "changes: set one of them only"
            )
