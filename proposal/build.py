"""Proposers by their string form, for flags and configs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proposal.configuration import config_from_dict
from proposal.files import FilesConfig, FilesProposer
from proposal.hub_models import UNIVERSAL, HubModel
from proposal.hub_sam import SamConfig, SamProposer
from proposal.hub_universal import UniversalConfig, UniversalProposer
from proposal.proposals import Proposer
from proposal.superpixels import SuperpixelConfig, SuperpixelProposer

KNOWN = "maskformer, superpixels, files:<folder>, hub:<id or folder>"


def build_proposer(
    spec: str, config: Mapping[str, Any] | None = None, device: str = "cpu"
) -> Proposer:
    """``superpixels``, ``files:<folder>`` or ``hub:<id or folder>`` -> that proposer.

    The first two work on the CPU whatever the device.

    Raises:
        ValueError: the form is unknown, is not built here, or the config or weights do not fit.
        FileNotFoundError: the folder is missing.
        OSError: the hub does not give the model.
    """
    kind, _, place = spec.partition(":")
    if spec == "superpixels":
        return SuperpixelProposer(config_from_dict(SuperpixelConfig, config or {}, spec))
    if kind == "files" and place:
        return FilesProposer(place, config_from_dict(FilesConfig, config or {}, spec))
    if kind == "hub" and place:
        return _build_from_hub(place, config or {}).to(device)
    if spec == "maskformer":
        raise ValueError("the proposer maskformer comes with a checkpoint: give one that holds it")
    raise ValueError(f"the proposer must be one of {KNOWN}, got {spec!r}")


def _build_from_hub(place: str, config: Mapping[str, Any]) -> UniversalProposer | SamProposer:
    """The settings are checked before the weights are fetched."""
    model = HubModel.find(place)
    if model.model_type in UNIVERSAL:
        settings = config_from_dict(UniversalConfig, config, model.reference)
        return UniversalProposer.load(model, settings)
    settings = {**SamConfig.defaults(model.model_type), **config}
    return SamProposer.load(model, config_from_dict(SamConfig, settings, model.reference))
