"""The training of a proposal network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from proposal.backbone_weights import load_trunk
from proposal.checkpoint_files import load_strictly
from proposal.configuration import config_to_dict
from proposal.criterion import Criterion
from proposal.data.source_config import DataConfig, expand
from proposal.data.sources import Source, fingerprint_data, open_sources, training_names
from proposal.data.stream import CropStream, stack
from proposal.evaluation import open_judge
from proposal.maskformer import MaskFormer
from proposal.optimizer import build_optimizer, build_schedule, freeze
from proposal.training_batches import load_shares
from proposal.training_checkpoint import read_proposer, write_proposer
from proposal.training_config import MAY_CHANGE, ProposalTraining, TrainConfig
from proposal.training_processes import own_device
from proposal.training_record import make_record
from proposal.training_run import Learner, Purpose, run_training
from proposal.training_step import TrainingStep, checkpoint_trunk

logger = logging.getLogger(__name__)
HEAD = "name_embed."  # of the parameters that the classifier "both" has and "objectness" has not
EncodeNames = Callable[[str, Sequence[str]], Tensor]  # CLIP's name, C names -> (C, D) unit length


def train(
    config: ProposalTraining,
    output: Path,
    *,
    init: Path | None = None,
    resume: bool = False,
    encode_names: EncodeNames | None = None,
) -> None:
    """Train, and leave in ``output`` a checkpoint folder with the proposer's part.

    ``init``: a checkpoint whose proposer is started from. ``resume``: go on with what ``output``
    holds, if it holds something. ``encode_names``: puts the training's names into the space of
    the CLIP ``data.clip``; only the classifiers "text" and "both" need it.

    Raises:
        FileNotFoundError: a file or folder is missing.
        ValueError: a setting, a file or the state to resume does not fit; or the loss diverged.
        Stopped: by the user; all is saved.
    """
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    torch.manual_seed(config.train.seed)
    classifier = config.proposer.classifier
    sources = open_sources(
        config.data, named=classifier != "objectness", partly=classifier == "both"
    )
    config, texts = with_names(config, sources, encode_names)
    network = build_network(config, init, texts)
    step = TrainingStep(network, Criterion(config.criterion), config.train.precision)
    optimizer = build_optimizer(network, config.train)
    learner = Learner(
        step.to(own_device()), network, optimizer, build_schedule(optimizer, config.train)
    )
    purpose = Purpose(
        folder=output,
        record=make_record(config_to_dict(config), fingerprint_data(config.data, sources)),
        may_change=MAY_CHANGE,
        batches=partial(build_loader, sources, config.data, config.train),
        save_model=partial(_save, config),
        validate=open_judge(config) if config.train.evaluate_iterations else None,
        prepare=step.share_counts,
    )
    run_training(learner, config.train.loop(), purpose, resume=resume)


def with_names(
    config: ProposalTraining, sources: Sequence[Source], encode_names: EncodeNames | None
) -> tuple[ProposalTraining, Tensor | None]:
    """The config with the sizes of the classifier that names, and its (C, D) embeddings.

    Raises:
        ValueError: they are needed, and there is no CLIP or no list of names.
    """
    classifier = config.proposer.classifier
    if classifier == "objectness":
        return config, None
    if not config.data.clip or encode_names is None:
        raise ValueError(
            f"proposer.classifier={classifier} needs a CLIP for the names of the training: "
            "set data.clip, such as ViT-B-16/openai, a checkpoint or a run folder"
        )
    names = training_names(config.data, sources, partly=classifier == "both")
    texts = encode_names(config.data.clip, names).float()
    count, size = texts.shape
    proposer = replace(config.proposer, training_names=count, embed_dim=size)
    return replace(config, proposer=proposer), texts


def build_network(
    config: ProposalTraining, init: Path | None, texts: Tensor | None = None
) -> MaskFormer:
    """The network at the start of a training; ``texts``: (C, D) where the classifier names."""
    network = MaskFormer(config.proposer)
    if init is not None:
        tensors = read_proposer(init)[1]
        if config.proposer.classifier == "text":
            tensors["training_text_embeddings"] = texts  # it may have learned other names
        load_strictly(network, with_head(network, tensors, str(init)), str(init))
    elif config.backbone.weights is not None:
        load_trunk(network.backbone, expand(config.backbone.weights, config.data))
    if texts is not None:
        network.training_text_embeddings.copy_(texts)
    freeze(network, config.train.frozen, config.train.only)
    if config.train.gradient_checkpointing:
        checkpoint_trunk(network)
    return network.to(own_device())


def with_head(
    network: MaskFormer, tensors: Mapping[str, Tensor], where: str
) -> Mapping[str, Tensor]:
    """Weights to start from, with the network's own fresh head that names where they have none."""
    fresh = {name: own for name, own in network.state_dict().items() if name.startswith(HEAD)}
    if not fresh or any(name.startswith(HEAD) for name in tensors):
        return tensors
    logger.info("%s only tells objects: the head that names them (name_embed) is new", where)
    return {**tensors, **fresh}


def build_loader(
    sources: Sequence[Source], data: DataConfig, config: TrainConfig, start: int
) -> DataLoader:
    """Batches from iteration ``start`` on, this process's share of each."""
    sizes = {"batches": config.iterations, "batch_size": config.batch_size}
    stream = CropStream(sources, data, seed=config.seed, **sizes)
    return load_shares(stream, config.loop(), start, workers=config.workers, collate=stack)


def _save(config: ProposalTraining, folder: Path, network: nn.Module, iterations: int) -> None:
    write_proposer(folder, network, config, iterations)
