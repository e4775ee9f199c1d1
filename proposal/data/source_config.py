"""What a training of stage 1 can be told of its photos."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from proposal.data.annotation import UNLABELLED
from proposal.data.augment import AugmentConfig

KINDS = ("instances", "panoptic", "labels", "regions")  # of sources; each is a setting of its own


@dataclass(frozen=True)
class SourceConfig:
    """One set of photos with masks, of one of four kinds.

    Paths may start with a name of ``DataConfig.folders`` in braces: ``{shared}/data/coco/images``.

    Raises:
        ValueError: it is of no kind or of two, or a setting does not fit its kind.
    """

    images: str = ""  # folder of photos
    instances: str | None = None  # a COCO or LVIS instances JSON …
    panoptic: str | None = None  # … or a COCO panoptic JSON …
    labels: str | None = None  # … or a folder of label PNGs, whose values are names …
    regions: str | None = None  # … or a folder of region PNGs: each value but 0 is a mask
    panoptic_pngs: str | None = None  # of a panoptic JSON; by default the folder of its own name
    names: str | None = None  # text file of labels' names; replaces those of a JSON (by rising id)
    first_label: int = 0  # labels' value of the first name; smaller ones are unlabelled
    ignore_label: int | None = None  # of unlabelled pixels; 255, or 65535 above 255 names
    unlabelled: str = (
        "ignore"  # pixels in which no mask is right or wrong, or "background" (published)
    )
    per_category: bool = (
        False  # join instances or segments to one mask per name (labels always are)
    )
    extra_regions: str | None = None  # region PNGs of the same photos, used outside the instances
    weight: float = 1.0  # how often its photos are drawn, all sources' weights making 1
    paste: bool = False  # whether its objects are pasted onto other photos

    def __post_init__(self) -> None:
        kinds = {name: getattr(self, name) for name in KINDS if getattr(self, name) is not None}
        if len(kinds) != 1:
            raise ValueError(
                "a data source must have either instances (a COCO or LVIS JSON), panoptic (a COCO "
                "JSON), labels (a folder, with names) or regions (a folder), got "
                f"{' and '.join(f'{name}={kind}' for name, kind in kinds.items()) or 'none'}"
            )
        if self.labels is not None and self.names is None:
            raise ValueError(f"the labels {self.labels} need names: a text file, one name a line")
        if self.unlabelled not in UNLABELLED:
            known = " or ".join(UNLABELLED)
            raise ValueError(f"unlabelled must be {known}, got {self.unlabelled!r}")

    @property
    def kind(self) -> str:
        """Which of ``KINDS`` it is."""
        return next(name for name in KINDS if getattr(self, name) is not None)

    @property
    def place(self) -> str:
        """The file or folder that makes it so."""
        return getattr(self, self.kind)


@dataclass(frozen=True)
class DataConfig:
    """What is trained on, and how it is varied."""

    folders: dict[str, str] = field(default_factory=dict)  # names that paths may start with
    sources: tuple[SourceConfig, ...] = ()
    validation: SourceConfig | None = None  # what --eval-only and validations measure on
    held_out: str | None = None  # text file: photos trained on by nothing; validation keeps to it
    # For proposer.classifier=text and both: the CLIP (ViT-B-16/openai, a checkpoint or run folder)
    # in whose space the training's names are put; their list (all names of the sources by default)
    clip: str = ""
    names: str | None = None
    cache_short_side: int = 480  # photos are kept in memory at most this large; 0 = not kept
    sides: tuple[int, ...] = (512,)  # crop sides, each for an equal part of the training
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if not self.sides or min(self.sides) < 32:
            raise ValueError(f"sides must be crop sides of at least 32, got {self.sides}")


def held_out_stems(config: DataConfig) -> frozenset[str]:
    """Names without ending of the photos that nothing trains on."""
    if config.held_out is None:
        return frozenset()
    path = expand(config.held_out, config)
    if not path.is_file():
        raise FileNotFoundError(f"there is no list of held out photos {path}")
    lines = path.read_text(encoding="utf-8").splitlines()
    return frozenset(Path(line.strip()).stem for line in lines if line.strip())


def expand(path: str, config: DataConfig) -> Path:
    """A path with its ``{name}`` replaced."""
    try:
        return Path(path.format(**config.folders)).expanduser()
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"the path {path} needs data.folders to hold {error}; it holds {sorted(config.folders)}"
        ) from error
