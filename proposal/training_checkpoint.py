"""The checkpoint folder that a training of stage 1 leaves."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from proposal.checkpoint_files import read_config, read_tensors, write_checkpoint
from proposal.configuration import config_from_dict, config_to_dict
from proposal.maskformer import MaskFormerConfig
from proposal.training_config import ProposalTraining

PREFIX = "proposer."  # of the network's weights in a checkpoint


def read_proposer(folder: Path) -> tuple[MaskFormerConfig, dict[str, Tensor]]:
    """A checkpoint's proposer: its config and its network's weights.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: it is damaged, or has no MaskFormer proposer.
    """
    where = str(folder / "config.json")
    values = read_config(folder).get("proposer")
    if not isinstance(values, dict) or values.get("type") != "maskformer":
        raise ValueError(f"{where} must have a proposer of type maskformer, got {values!r:.80}")
    sizes = {key: value for key, value in values.items() if key != "type"}
    tensors = {
        name.removeprefix(PREFIX): tensor
        for name, tensor in read_tensors(folder).items()
        if name.startswith(PREFIX)
    }
    return config_from_dict(MaskFormerConfig, sizes, where), tensors


def write_proposer(
    folder: Path, network: nn.Module, config: ProposalTraining, iterations: int
) -> None:
    """Write a checkpoint with the proposer's part only."""
    content = {
        "name": config.name,
        "proposer": {"type": "maskformer", **config_to_dict(config.proposer)},
        "provenance": {
            "stage": "proposal",
            "iterations": iterations,
            "training": config_to_dict(config),
        },
    }
    tensors = {f"{PREFIX}{name}": tensor for name, tensor in network.state_dict().items()}
    write_checkpoint(folder, content, tensors)
