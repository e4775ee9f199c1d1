"""Recall of a trained proposal network on the validation photos."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import torch

from proposal.checkpoint_files import load_strictly
from proposal.data.coco import CocoPhoto
from proposal.data.photo import load_rgb
from proposal.data.sources import open_validation
from proposal.maskformer import MaskFormer
from proposal.maskformer_proposer import MaskFormerProposer
from proposal.proposals import Proposals, Proposer
from proposal.recall import Truth, proposal_recall
from proposal.training_checkpoint import read_proposer
from proposal.training_config import ProposalTraining

logger = logging.getLogger(__name__)


def evaluate(config: ProposalTraining, folder: Path) -> dict[str, float]:
    """Recall (percent) of the checkpoint in ``folder`` on ``data.validation``.

    Raises:
        FileNotFoundError: there is no checkpoint, or no validation data.
        ValueError: either is damaged.
    """
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    photos = open_validation(config.data)
    sizes, tensors = read_proposer(folder)
    network = MaskFormer(sizes)
    load_strictly(network, tensors, str(folder))
    network.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    return proposal_recall(compare(MaskFormerProposer(network), photos))


def compare(proposer: Proposer, photos: list[CocoPhoto]) -> Iterator[tuple[Proposals, Truth]]:
    """Each photo's proposals with its objects."""
    for done, photo in enumerate(photos):
        if done % 20 == 0:
            logger.info("%d of %d photos measured", done, len(photos))
        yield proposer.propose(load_rgb(photo.path)), Truth(photo.masks(), photo.areas())
