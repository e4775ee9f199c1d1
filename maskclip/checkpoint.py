"""Whole models as checkpoint folders."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from maskclip.checkpoint_source import find_checkpoint, is_checkpoint
from maskclip.clip import MaskClip
from maskclip.clip_config import ClipConfig
from maskclip.clip_models import build_clip
from maskclip.clip_source import is_open_clip_folder
from maskclip.segmentor_config import SegmentorConfig
from maskclip.text_files import find_text_files, write_clip_config
from maskclip.tower import token_path
from proposal.checkpoint_files import (
    CONFIG_NAME,
    load_strictly,
    read_config,
    read_tensors,
    write_checkpoint,
)
from proposal.configuration import config_from_dict, config_to_dict, override_config
from proposal.maskformer import MaskFormer, MaskFormerConfig
from proposal.maskformer_proposer import MaskFormerProposer
from proposal.proposals import Proposer

SECTIONS = ("proposer", "clip", "segmentor")  # of config.json, and of overrides
KNOWN_KEYS = (*SECTIONS, "name", "provenance")
MASKFORMER = "maskformer"
# What no longer fits once a part is exchanged: stage 1 speaks in the space of the checkpoint's own
# CLIP, another CLIP has a scale of its own, and the scores and sizes of another proposer's masks
# mean something else.
UNFITTED = {
    "clip": [
        "fusion_weight=1.0",
        "temperature=0.0",
        "certainty_power=0.0",
        "head_start=0.0",
        "dense_weight=0.0",
        "dense_temperature=0.0",
    ],
    "proposer": [
        "fusion_weight=1.0",
        "objectness_power=0.0",
        "size_power=0.0",
        "min_objectness=0.0",
    ],
}
# What cannot change once a CLIP is built
FIXED_IN_CLIP = (
    *("model", "prompt_depth", "pixel_prompt", "text_context"),
    *("photo_context", "photo_detector", "dense_width"),
)


@dataclass(frozen=True)
class Parts:
    """What a Segmentor is made of."""

    proposer: Proposer
    clip: MaskClip
    config: SegmentorConfig
    name: str
    proposer_name: str
    provenance: Mapping[str, Any] = field(default_factory=dict)  # how it was made; its licence


@dataclass(frozen=True)
class _Folder:
    """A checkpoint folder, read and checked as far as it can be without building anything."""

    path: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]

    def section(self, name: str) -> dict[str, Any]:
        if name not in self.config:
            held = ", ".join(key for key in SECTIONS if key in self.config) or "none of the parts"
            raise ValueError(
                f"{self.path} holds no {name} (it holds {held}): give another model, or a {name}"
            )
        section = self.config[name]
        if not isinstance(section, dict):
            kind = type(section).__name__
            raise ValueError(f"{self.where}: {name} must be a mapping, got a {kind}")
        return section

    def weights(self, name: str) -> dict[str, Tensor]:
        prefix = f"{name}."
        own = [key for key in self.tensors if key.startswith(prefix)]
        return {key.removeprefix(prefix): self.tensors[key] for key in own}

    @property
    def where(self) -> str:
        return str(self.path / CONFIG_NAME)


def load_parts(
    source: str | os.PathLike,
    *,
    proposer: str | None = None,
    clip: str | None = None,
    device: str | torch.device = "cpu",
    overrides: Sequence[str] = (),
) -> Parts:
    """A packaged name, folder or hub id -> its parts, some exchanged, settings overridden.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: a file is damaged, weights and config do not fit, a setting is unknown.
        OSError: the hub cannot be reached.
    """
    changes = split_overrides(overrides)
    folder = _read_folder(find_checkpoint(source))
    config = config_from_dict(
        SegmentorConfig, folder.config.get("segmentor", {}), f"{folder.where}: segmentor"
    )
    unfitted = [] if clip is None else UNFITTED["clip"]
    if proposer not in (None, MASKFORMER):
        unfitted = UNFITTED["proposer"]
    config = override_config(config, [*unfitted, *changes["segmentor"]])
    chosen, proposer_name = _choose_proposer(folder, proposer, device, changes["proposer"])
    return Parts(
        chosen,
        _choose_clip(folder, clip, device, changes["clip"]),
        config,
        str(folder.config.get("name") or folder.path.name),
        proposer_name,
        _provenance(folder, proposer=proposer, clip=clip),
    )


def _provenance(folder: _Folder, **exchanged: str | None) -> dict[str, Any]:
    """Where the folder's parts are from, and what was put in their place."""
    others = {part: str(spec) for part, spec in exchanged.items() if spec not in (None, MASKFORMER)}
    return {**folder.config.get("provenance", {}), **({"exchanged": others} if others else {})}


def save_parts(folder: Path, parts: Parts, *, dtype: torch.dtype = torch.float32) -> None:
    """Write a checkpoint folder, weights as ``dtype`` where that can hold them.

    Raises:
        ValueError: the proposer is of a kind that no checkpoint can describe.
    """
    section, weights = _describe_proposer(parts.proposer, parts.proposer_name)
    tensors = {f"proposer.{name}": each for name, each in weights.items()}
    tensors |= {f"clip.{name}": each for name, each in parts.clip.state_dict().items()}
    config = {
        "name": parts.name or folder.name,
        "proposer": section,
        "clip": write_clip_config(parts.clip, folder),
        "segmentor": config_to_dict(parts.config),
        "provenance": dict(parts.provenance),
    }
    write_checkpoint(folder, config, {name: _cast(each, dtype) for name, each in tensors.items()})


def load_clip(
    spec: str, device: str | torch.device = "cpu", overrides: Sequence[str] = ()
) -> MaskClip:
    """A CLIP from a checkpoint or run folder, or from open_clip, with settings overridden.

    Raises:
        ValueError, FileNotFoundError, OSError: as ``load_parts`` and ``build_clip``.
    """
    if is_checkpoint(spec) and not is_open_clip_folder(spec):
        return _build_clip(_read_folder(find_checkpoint(spec)), device, overrides)
    clip = build_clip(spec, device)
    changed = override_config(clip.config, overrides)
    fixed = [name for name in FIXED_IN_CLIP if vars(changed)[name] != vars(clip.config)[name]]
    if "prompt_depth" in fixed:
        token_path(clip.tower.visual)  # says so where the tower takes no prompts at all
    if fixed:
        raise ValueError(f"clip.{fixed[0]} belongs to the weights of {spec}: it cannot be set")
    clip.change(changed)
    return clip


def load_proposer(
    spec: str, device: str | torch.device = "cpu", overrides: Sequence[str] = ()
) -> Proposer:
    """``superpixels``, ``files:<folder>``, or the proposer of a checkpoint or run folder.

    Raises:
        ValueError, FileNotFoundError, OSError: as ``load_parts`` and ``build_proposer``.
    """
    if is_checkpoint(spec):
        return _build_proposer(_read_folder(find_checkpoint(spec)), device, overrides)[0]
    return _build_other(spec, _as_mapping(overrides), device)


def _read_folder(path: Path) -> _Folder:
    config = read_config(path)
    unknown = [key for key in config if key not in KNOWN_KEYS]
    if unknown:
        known = ", ".join(KNOWN_KEYS)
        raise ValueError(
            f"{path / CONFIG_NAME} has the unknown key {unknown[0]}: known are {known}"
        )
    tensors = read_tensors(path)
    stray = [key for key in tensors if key.split(".")[0] not in config]
    if stray:
        raise ValueError(
            f"{path} does not fit its config: it has the unexpected weight {stray[0]}, which "
            "belongs to none of its parts"
        )
    return _Folder(path, config, tensors)


def split_overrides(overrides: Sequence[str]) -> dict[str, list[str]]:
    """``segmentor.a=1`` -> ``a=1`` in the list of its section.

    Raises:
        ValueError: a setting of no section.
    """
    split: dict[str, list[str]] = {section: [] for section in SECTIONS}
    for override in overrides:
        section, _, rest = override.partition(".")
        if section not in split or not rest:
            raise ValueError(
                f"a setting must look like a.b=value with a one of {', '.join(SECTIONS)}, "
                f"got {override!r}"
            )
        split[section].append(rest)
    return split


def _choose_proposer(
    folder: _Folder, spec: str | None, device: str | torch.device, overrides: Sequence[str]
) -> tuple[Proposer, str]:
    if spec is None:
        return _build_proposer(folder, device, overrides)
    if spec == MASKFORMER:
        kind = folder.section("proposer").get("type")
        if kind != MASKFORMER:
            raise ValueError(f"{folder.path} holds no maskformer, its proposer is {kind!r}")
        return _build_proposer(folder, device, overrides)
    return load_proposer(spec, device, overrides), spec


def _build_proposer(
    folder: _Folder, device: str | torch.device, overrides: Sequence[str]
) -> tuple[Proposer, str]:
    section, where = dict(folder.section("proposer")), f"{folder.where}: proposer"
    kind = section.pop("type", None)
    if not isinstance(kind, str):
        raise ValueError(f"{where} must say its type, such as maskformer, got {kind!r}")
    if kind != MASKFORMER:
        return _build_other(kind, section | _as_mapping(overrides), device), kind
    config = override_config(config_from_dict(MaskFormerConfig, section, where), overrides)
    network = MaskFormer(config)
    load_strictly(network, folder.weights("proposer"), f"the proposer in {folder.path}")
    return MaskFormerProposer(network.to(device).eval()), kind


def _build_other(kind: str, settings: dict[str, Any], device: str | torch.device) -> Proposer:
    from proposal.build import build_proposer  # here, as it takes scikit-image's time to import

    return build_proposer(kind, settings, device)


def _choose_clip(
    folder: _Folder, spec: str | None, device: str | torch.device, overrides: Sequence[str]
) -> MaskClip:
    if spec is None:
        return _build_clip(folder, device, overrides)
    return load_clip(spec, device, overrides)


def _build_clip(folder: _Folder, device: str | torch.device, overrides: Sequence[str]) -> MaskClip:
    section = find_text_files(folder.section("clip"), folder.path)
    config = config_from_dict(ClipConfig, section, f"{folder.where}: clip")
    clip = build_clip(override_config(config, overrides), device)
    load_strictly(clip, folder.weights("clip"), f"the CLIP in {folder.path}")
    # A convolutional trunk takes about half the time so; crops come channels last, too
    return clip.eval().to(memory_format=torch.channels_last)


def _as_mapping(overrides: Sequence[str]) -> dict[str, Any]:
    """``a.b=value`` texts -> nested values, for proposers whose settings are known elsewhere."""
    return OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides)))


def _describe_proposer(proposer: Proposer, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """-> its section of config.json, its weights."""
    if isinstance(proposer, MaskFormerProposer):
        network = proposer.network
        return {"type": MASKFORMER, **config_to_dict(network.config)}, network.state_dict()
    config = getattr(proposer, "config", None)
    reference = getattr(proposer, "reference", "")  # where published weights are found again
    if (isinstance(proposer, nn.Module) and not reference) or not is_dataclass(config):
        raise ValueError(
            f"a checkpoint cannot describe the proposer {name}: save with a maskformer, "
            "superpixels or a model of the hub, and give this one when you segment"
        )
    return {"type": reference or name, **config_to_dict(config)}, {}


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """As ``dtype`` unless it is no weight, a single number, or holds values beyond its range."""
    if not tensor.is_floating_point() or tensor.ndim == 0:
        return tensor
    cast = tensor.to(dtype)
    return cast if torch.isfinite(cast).all() else tensor
