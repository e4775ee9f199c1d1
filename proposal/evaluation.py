"""Recall of a trained proposal network on the validation photos."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from proposal.checkpoint_files import load_strictly
from proposal.data.photo import load_rgb
from proposal.data.sources import AnnotatedPhoto, open_validation
from proposal.maskformer import MaskFormer
from proposal.maskformer_proposer import MaskFormerProposer
from proposal.proposals import Proposals, Proposer
from proposal.recall import COUNTS, SIZES, Truth, proposal_recall
from proposal.training_checkpoint import read_proposer
from proposal.training_config import ProposalTraining
from proposal.training_processes import own_device

logger = logging.getLogger(__name__)
METRICS = (*(f"AR@{count}{size}" for size in SIZES for count in COUNTS), "best_overlap")


def evaluate(config: ProposalTraining, folder: Path) -> dict[str, float]:
    """Recall (percent) of the checkpoint in ``folder`` on ``data.validation``.

    Raises:
        FileNotFoundError: there is no checkpoint, or no validation data.
        ValueError: either is damaged.
    """
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    judge = open_judge(config)
    sizes, tensors = read_proposer(folder)
    network = MaskFormer(sizes)
    load_strictly(network, tensors, str(folder))
    return judge(network.to(own_device()).eval())


def open_judge(config: ProposalTraining) -> Callable[[MaskFormer], dict[str, float]]:
    """What measures networks on ``data.validation``; the photos are found now, not in an hour."""
    photos, best = open_validation(config.data), config.train.best_metric
    if best and best not in METRICS:
        raise ValueError(f"train.best_metric must be one of {', '.join(METRICS)}, got {best!r}")

    def judge(network: MaskFormer) -> dict[str, float]:
        return proposal_recall(compare(MaskFormerProposer(network), photos))

    return judge


def compare(
    proposer: Proposer, photos: Sequence[AnnotatedPhoto]
) -> Iterator[tuple[Proposals, Truth]]:
    """Each photo's proposals with its objects; for label maps, with the regions of its names."""
    for done, photo in enumerate(photos):
        if done % 20 == 0:
            logger.info("%d of %d photos measured", done, len(photos))
        found = photo.annotation()
        yield proposer.propose(load_rgb(photo.path)), Truth(found.masks, found.areas)
