"""Models that others published for ``transformers``, from a hub id or a folder.

Read are JSON files and safetensors, never pickled weights or a repository's own code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import RemoteEntryNotFoundError
from torch import nn

from proposal.hub import HUB_ID, fetch
from proposal.json_content import read_json_object

CONFIG = "config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"),
    *("special_tokens_map.json", "added_tokens.json"),
)
# What was tried: model_type in config.json -> its network and its image processor in transformers
UNIVERSAL = {
    "maskformer": ("MaskFormerForInstanceSegmentation", "MaskFormerImageProcessor"),
    "mask2former": ("Mask2FormerForUniversalSegmentation", "Mask2FormerImageProcessor"),
    "oneformer": ("OneFormerForUniversalSegmentation", "OneFormerImageProcessor"),
    "eomt": ("EomtForUniversalSegmentation", "EomtImageProcessor"),
    "eomt_dinov3": ("EomtDinov3ForUniversalSegmentation", "EomtImageProcessor"),
}
MASK_GENERATION = {
    "sam": ("SamModel", "SamImageProcessor"),
    "sam_hq": ("SamHQModel", "SamImageProcessor"),
    "sam2": ("Sam2Model", "Sam2ImageProcessor"),
    "sam2_video": ("Sam2Model", "Sam2ImageProcessor"),  # the published SAM 2 call themselves so
    "edgetam": ("EdgeTamModel", "Sam2ImageProcessor"),
    "edgetam_video": ("EdgeTamModel", "Sam2ImageProcessor"),
    "sam3_tracker": ("Sam3TrackerModel", "Sam3ImageProcessor"),
    "sam3_tracker_video": ("Sam3TrackerModel", "Sam3ImageProcessor"),
    "sam3_video": ("Sam3TrackerModel", "Sam3ImageProcessor"),
}
KINDS = UNIVERSAL | MASK_GENERATION


@dataclass(frozen=True)
class HubModel:
    """A model that is known to be supported; its weights are not read yet.

    Raises:
        ValueError: its kind is not supported.
    """

    reference: str  # hub:<id>@<commit> or hub:<folder>, which finds exactly this one again
    folder: Path
    model_type: str

    def __post_init__(self) -> None:
        if self.model_type not in KINDS:
            known = ", ".join(sorted(KINDS))
            raise ValueError(
                f"{self.reference} is a model of the kind {self.model_type!r}, which was not tried "
                f"as a proposer: choose one of the kinds {known}"
            )

    @classmethod
    def find(cls, place: str) -> HubModel:
        """A folder, else a hub id (``owner/name`` or ``owner/name@revision``) -> its HubModel.

        Raises:
            FileNotFoundError: there is no such folder, or it holds no model.
            ValueError: the model is of no supported kind, or its config.json is damaged.
            OSError: the hub does not give it.
        """
        folder = Path(place).expanduser()
        reference = f"hub:{folder.resolve()}"
        if not folder.is_dir():
            if not HUB_ID.fullmatch(place.partition("@")[0]):
                raise FileNotFoundError(
                    f"hub: needs a folder or a hub id (owner/name), there is no folder {place}"
                )
            folder = fetch(place, [CONFIG])
            reference = f"hub:{place.partition('@')[0]}@{folder.name}"
        return cls(reference, folder, str(_read_file(folder / CONFIG).get("model_type")))

    def load_processor(self) -> Any:
        """Its image processor, with the settings of its preprocessor_config.json.

        Raises:
            FileNotFoundError: it has none.
            ValueError: its settings are damaged.
        """
        self._fetch(optional=PROCESSOR_FILES)
        found = [name for name in PROCESSOR_FILES if (self.folder / name).is_file()]
        if not found:
            raise FileNotFoundError(
                f"{self.reference} has no {PROCESSOR_FILES[0]}, which says how photos are resized "
                "and normalised: save its image processor into the folder, too"
            )
        settings = _read_file(self.folder / found[0])
        changes: dict[str, Any] = {}
        if "size_divisibility" in settings:  # as older versions called it
            changes["size_divisor"] = settings["size_divisibility"]
        if self.model_type == "oneformer":
            changes["class_info_file"] = None  # names of classes, to be fetched from elsewhere
        return self._load(self._class_names()[1], **changes)

    def load_network(self) -> nn.Module:
        """The network in single precision, on the CPU, ready for inference.

        Raises:
            FileNotFoundError: it has no safetensors.
            ValueError: weights are missing, damaged, or do not fit the config.
        """
        self._fetch_weights()
        changes = {"is_training": False} if self.model_type == "oneformer" else {}
        network, report = self._load(
            self._class_names()[0],
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            **changes,
        )
        tensors = network.state_dict()
        missing = sorted(name for name in report["missing_keys"] if _matters(name, tensors))
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise ValueError(
                f"{self.reference} does not fit its config: it misses the weights "
                f"{', '.join(missing[:3])}{more}"
            )
        return network.eval().requires_grad_(False)

    def load_tokenizer(self) -> Any:
        """The tokenizer of a model that is asked in words.

        Raises:
            FileNotFoundError: the folder has none.
        """
        self._fetch(optional=TOKENIZER_FILES)
        if not any((self.folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
            raise FileNotFoundError(
                f"{self.reference} has no tokenizer (tokenizer.json, or vocab.json and merges.txt),"
                " which it needs to be told its task: save its processor into the folder, too"
            )
        return self._load("CLIPTokenizer")

    def _class_names(self) -> tuple[str, str]:
        return KINDS[self.model_type]

    def _fetch(self, files: tuple[str, ...] = (), optional: tuple[str, ...] = ()) -> None:
        """Complete the folder, unless it is the user's own."""
        source = self.reference.removeprefix("hub:")
        if not Path(source).is_absolute():
            fetch(source, [CONFIG, *files], optional)

    def _fetch_weights(self) -> None:
        self._fetch(optional=(INDEX,))
        if (self.folder / INDEX).is_file():
            shards = _read_file(self.folder / INDEX).get("weight_map", {})
            self._fetch(files=tuple(sorted(set(shards.values()))))
            return
        refusal = FileNotFoundError(
            f"{self.reference} has no {WEIGHTS}, and pickled weights are never read: look for it "
            "among the repository's pull requests (hub:owner/name@refs/pr/1, say), or convert them"
        )
        try:
            self._fetch(files=(WEIGHTS,))
        except OSError as error:
            if isinstance(error.__cause__, RemoteEntryNotFoundError):
                raise refusal from error
            raise
        if not (self.folder / WEIGHTS).is_file():
            raise refusal

    def _load(self, class_name: str, **changes: Any) -> Any:
        import transformers  # here, as it takes seconds

        with _quietly():
            try:
                kind = getattr(transformers, class_name)
                return kind.from_pretrained(
                    self.folder, local_files_only=True, trust_remote_code=False, **changes
                )
            except Exception as error:  # damaged files make transformers fail in any way
                reason = " ".join(str(error).split())[:300] or type(error).__name__
                raise ValueError(
                    f"{self.reference} cannot be read as {class_name}: {reason}"
                ) from error


def check_input_size(reference: str, processor: Any, side: int | Sequence[int]) -> None:
    """Raise ValueError unless photos are resized to the side that a network was built for."""
    size = processor.size
    given = {size.height, size.width, size.longest_edge, size.shortest_edge} - {None}
    wanted = {side} if isinstance(side, int) else set(side)
    if given != wanted:
        raise ValueError(
            f"{reference} does not fit together: its image processor resizes photos to "
            f"{sorted(given)} pixels, its network wants {sorted(wanted)}"
        )


def _matters(name: str, tensors: dict[str, torch.Tensor]) -> bool:
    """Is it a weight? Those of the loss, and tables of indices, are not."""
    tensor = tensors.get(name)
    floating = tensor is None or tensor.is_floating_point()
    return floating and not name.startswith("criterion.")


def _read_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} holds no model of transformers: no {path.name}")
    return read_json_object(path)


@contextmanager
def _quietly() -> Iterator[None]:
    """transformers tells of what we check ourselves, and draws a bar for every file."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
