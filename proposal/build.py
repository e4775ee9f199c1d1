"""Proposers by their string form, for flags and configs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proposal.configuration import config_from_dict
from proposal.files import FilesProposer
from proposal.proposals import Proposer
from proposal.superpixels import SuperpixelConfig, SuperpixelProposer

KNOWN = "maskformer, superpixels, files:<folder>"


def build_proposer(
    spec: str, config: Mapping[str, Any] | None = None, device: str = "cpu"
) -> Proposer:
    """``superpixels`` or ``files:<folder>`` -> that proposer; both work on the CPU only.

    Raises:
        ValueError: the form is unknown, is not built here, or the config does not fit.
        FileNotFoundError: the folder is missing.
    """
    del device
    kind, _, place = spec.partition(":")
    if spec == "superpixels":
        return SuperpixelProposer(config_from_dict(SuperpixelConfig, config or {}, spec))
    if kind == "files" and place:
        return FilesProposer(place)
    if kind == "hub":
        raise ValueError(f"the proposer {spec} needs a later version: this one has {KNOWN}")
    if spec == "maskformer":
        raise ValueError("the proposer maskformer comes with a checkpoint: give one that holds it")
    raise ValueError(f"the proposer must be one of {KNOWN}, got {spec!r}")
