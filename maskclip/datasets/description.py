"""What the known data sets are: names, counts, how their downloads lie on the disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from maskclip.names import read_class_file
from maskclip.segmentation import ignore_label
from proposal.configuration import load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DESCRIPTIONS = CONFIGS / "datasets"
DECODERS = ("table", "ade_full", "context_mat", "panoptic", "instances")


@dataclass(frozen=True)
class Layout:
    """One way in which a download lies below its folder; ``{split}`` stands for the split's name.

    A photo and its label file belong together when their names are equal without their endings.
    """

    photos: str = ""  # folder of photos, subfolders included
    labels: str = ""  # folder of label files, subfolders included
    photo_end: str = ""  # what photos end in: _leftImg8bit.png; nothing = .jpg, .png …
    label_end: str = ".png"
    listed: str = ""  # text file with the stems of the split; nothing = every label file
    prefix: str = ""  # only label files that start so
    annotations: str = ""  # JSON, or the data set's own table of names
    first: int | None = None  # instead of the description's
    order: tuple[str, ...] = ()  # names in the order of the values from ``first`` on


@dataclass(frozen=True)
class DatasetDescription:
    """A data set: its names in label order, and how to prepare it.

    Raises:
        ValueError: no layout, or an unknown decoder.
    """

    title: str = ""
    names: str = ""  # file below configs/; nothing = those of the annotations
    aliases: tuple[str, ...] = ()  # other ways to ask for it
    splits: dict[str, str] = field(default_factory=dict)  # name -> how the files call it
    counts: dict[str, int] = field(default_factory=dict)  # split -> photos it officially has
    name_count: int = 0  # names that the annotations must have where ``names`` is no file
    download: str = ""  # what to download, from where
    decode: str = "table"
    first: int = 0  # table: the value of the first name
    ids: tuple[int, ...] = ()  # table: the value of each name, where they have gaps
    ignored: tuple[int, ...] = (255,)  # table: values that are no name
    layouts: tuple[Layout, ...] = ()
    short_side: int = 0  # photos and labels with a larger short side are resized to it; 0 = never
    commas: str = "keep"  # names with commas: keep them whole, take the first, or as synonyms

    def __post_init__(self) -> None:
        if self.decode not in DECODERS:
            raise ValueError(f"decode must be one of {', '.join(DECODERS)}, got {self.decode!r}")
        if self.commas not in COMMAS:
            raise ValueError(f"commas must be one of {', '.join(COMMAS)}, got {self.commas!r}")
        if not self.splits or not self.layouts:
            raise ValueError(f"{self.title or 'a data set'} must have splits and layouts")

    def read_names(self) -> tuple[str, ...]:
        """The names in label order; nothing where the annotations hold them."""
        return tuple(read_class_file(CONFIGS / self.names)) if self.names else ()

    @property
    def ignore(self) -> int:
        """What prepared labels hold where there is no name."""
        return ignore_label(len(self.read_names()) or self.name_count or 1)


COMMAS = {
    "keep": lambda name: name,
    "first": lambda name: name.split(",")[0].strip(),
    "synonyms": lambda name: "|".join(part.strip() for part in name.split(",") if part.strip()),
}


def load_description(name: str) -> tuple[str, DatasetDescription]:
    """A name, an alias (upper and lower case and dashes are alike), or a YAML file's path.

    -> the name that its folder has, the description.

    Raises:
        FileNotFoundError: there is no such data set; the known ones are listed.
        ValueError: the description is damaged.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        return path.stem, load_config(DatasetDescription, path, [])
    if not DESCRIPTIONS.is_dir():
        raise FileNotFoundError(
            f"the data-set descriptions must lie in {DESCRIPTIONS}: run from a clone of the "
            "repository, or give the path of a YAML"
        )
    known = {path.stem: path for path in sorted(DESCRIPTIONS.glob("*.yaml"))}
    if name in known:
        return name, load_config(DatasetDescription, known[name], [])
    for stem, path in known.items():
        description = load_config(DatasetDescription, path, [])
        if _key(name) in {_key(each) for each in (stem, *description.aliases)}:
            return stem, description
    raise FileNotFoundError(
        f"there is no data set {name!r}: known are {', '.join(known)}; for a folder of your own "
        "give --images, --labels and --classes-file"
    )


def _key(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
