"""What the name of a CLIP stands for: open_clip's configuration with its weights."""

from __future__ import annotations

import difflib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
from huggingface_hub import errors, try_to_load_from_cache
from open_clip.factory import get_model_config
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

from proposal.hub import fetch

OPEN_CLIP_CONFIG = "open_clip_config.json"
# In the order that open_clip looks for them; "model" is often the same model as transformers has it
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
)
ON_HUB = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "spiece.model", "vocab.txt")
HUB, FOLDER = "hf-hub:", "local-dir:"


@dataclass(frozen=True)
class ClipSource:
    """A CLIP before it is built."""

    model: dict[str, Any]  # open_clip's configuration, without its class: see ClipConfig.model
    preprocess: dict[str, Any]  # mean, std, interpolation … as far as they are known
    weights: Path | None  # None: there are none


def is_open_clip_folder(spec: str | os.PathLike) -> bool:
    """Is it a folder in the layout that open_clip saves for the hub?"""
    return (Path(spec).expanduser() / OPEN_CLIP_CONFIG).is_file()


def find_clip(spec: str) -> ClipSource:
    """The configuration and the weights that ``spec`` names, fetched if need be.

    ``<open_clip model>``, ``<open_clip model>/<tag>``, ``<open_clip model>/<local file>``,
    ``hf-hub:<id>``, ``local-dir:<folder>``, or the folder alone.

    Raises:
        ValueError: there is no such model, or it has no such tag.
        FileNotFoundError: a local folder lacks a file.
        OSError: the hub does not give a file.
    """
    if spec.startswith(HUB):
        return _from_hub(spec.removeprefix(HUB))
    if spec.startswith(FOLDER) or is_open_clip_folder(spec):
        return _from_folder(Path(spec.removeprefix(FOLDER)).expanduser())
    name, weights = _split_name(spec)
    preprocess = _usual_preprocess(name)
    model = get_model_config(name)
    if not weights:
        return ClipSource(model, preprocess, None)
    tag = get_pretrained_cfg(name, weights)
    if not tag:
        return ClipSource(model, preprocess, _local_file(name, weights))
    if tag.get("quick_gelu"):  # open_clip itself only warns that activation and weights differ
        model["quick_gelu"] = True
    return ClipSource(model, preprocess | tag, _fetch_tag(tag["hf_hub"]))


def tags_of(name: str) -> str:
    """The pretrained tags of an open_clip model, for a message."""
    return ", ".join(list_pretrained_tags_by_model(name)) or "none"


def _split_name(spec: str) -> tuple[str, str]:
    """``ViT-B-16/openai``, or OpenAI's own spelling ``ViT-B/16/openai`` -> model, weights."""
    known = open_clip.list_models()
    parts = spec.split("/")
    for count in range(len(parts), 0, -1):
        name = "-".join(parts[:count])
        if name in known:
            return name, "/".join(parts[count:])
    name = parts[0]
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.3)
    hub = f"; for a model of the hub write {HUB}{spec}" if len(parts) == 2 else ""
    raise ValueError(
        f"there is no open_clip model {name!r}: near it are {', '.join(near) or 'none'} "
        f"(all: open_clip.list_models()){hub}"
    )


def _local_file(name: str, weights: str) -> Path:
    path = Path(weights).expanduser()
    if path.is_file():
        return path
    near = difflib.get_close_matches(weights, list_pretrained_tags_by_model(name), n=1)
    raise ValueError(
        f"{weights!r} is neither a file nor a pretrained tag of {name}: its tags are "
        f"{tags_of(name)}" + (f"; did you mean {near[0]}?" if near else "")
    )


def _usual_preprocess(name: str) -> dict[str, Any]:
    """What most of a model's pretrained tags agree on: files of weights do not say it."""
    tags = [get_pretrained_cfg(name, tag) for tag in list_pretrained_tags_by_model(name)]
    wanted = ("mean", "std", "interpolation")
    usual = Counter(tuple(tag[key] for key in wanted) for tag in tags).most_common(1)
    return dict(zip(wanted, usual[0][0], strict=True)) if usual else {}


def _fetch_tag(place: str) -> Path:
    """``owner/name/`` or ``owner/name/file`` of the hub -> the file of weights."""
    hub_id, _, file = place.rpartition("/")
    return _fetch_first(hub_id, [f"{Path(file).stem}.safetensors", file] if file else ON_HUB)


def _fetch_first(hub_id: str, files: Sequence[str]) -> Path:
    """The first of the files that the hub (without a network: the cache) has."""
    file, *others = files
    try:
        return fetch(hub_id, [file]) / file
    except OSError as error:
        missing = isinstance(error.__cause__, errors.EntryNotFoundError)
        if isinstance(error.__cause__, errors.LocalEntryNotFoundError):  # nobody could be asked
            missing = any(try_to_load_from_cache(hub_id, other) for other in others)
        if not (missing and others):
            raise
    return _fetch_first(hub_id, others)


def _from_hub(hub_id: str) -> ClipSource:
    folder = fetch(hub_id, [OPEN_CLIP_CONFIG])
    model, preprocess = _read_config(folder / OPEN_CLIP_CONFIG)
    return ClipSource(model, preprocess, _fetch_first(hub_id, ON_HUB))


def _from_folder(folder: Path) -> ClipSource:
    if not (folder / OPEN_CLIP_CONFIG).is_file():
        raise FileNotFoundError(f"{folder} holds no open_clip model: it has no {OPEN_CLIP_CONFIG}")
    model, preprocess = _read_config(folder / OPEN_CLIP_CONFIG)
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise FileNotFoundError(f"{folder} holds no weights: there must be a {WEIGHTS[0]}")
    text = model.get("text_cfg", {})
    if text.get("hf_tokenizer_name") and any((folder / file).is_file() for file in TOKENIZER_FILES):
        text["hf_tokenizer_name"] = str(folder.resolve())
    return ClipSource(model, preprocess, weights)


def _read_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """-> the model's configuration, how its crops are normalised."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        model, preprocess = stored.get("model_cfg", stored), stored.get("preprocess_cfg", {})
        fits = isinstance(model["text_cfg"], dict) and isinstance(model["vision_cfg"], dict)
    except (ValueError, AttributeError, KeyError, TypeError):
        fits = False
    if not fits:
        raise ValueError(f"{path} is damaged: it must be JSON with a model_cfg of open_clip")
    return model, preprocess
