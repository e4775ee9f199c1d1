"""What a process that labels shards keeps between them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labeling.label_config import LabelConfig, fingerprint_model
from labeling.labeler import Labeler
from labeling.shards import LabeledShard, Shard, Tick, label_shard, pinned_threads
from proposal.heap import keep_freed_memory


@dataclass(frozen=True)
class Work:
    """The part of a run that is the same for all its shards."""

    config: LabelConfig
    images: Path  # the folder that entries' paths are relative to
    weights: str  # fingerprint of the model that the run was started with


class Worker:
    """Labels shards with one model on one device."""

    def __init__(self, work: Work, device: str, labeler: Labeler | None = None) -> None:
        """Load the model, unless a labeler is at hand.

        Raises:
            ValueError: this process finds another model than the run was started with.
        """
        self.work = work
        if device == "cpu":
            keep_freed_memory()
        if labeler is None:
            segmentor = work.config.load_segmentor(device)
            if fingerprint_model(segmentor) != work.weights:
                raise ValueError(
                    f"the model {work.config.model} has other weights for this worker than where "
                    "the run was started: give all machines the same files"
                )
            labeler = work.config.build_labeler(segmentor)
        self.labeler = labeler

    def label(self, shard: Shard, tick: Tick) -> LabeledShard:
        """One shard; ``tick`` is told of each photo."""
        with pinned_threads(self.work.config.threads):
            return label_shard(self.labeler, self.work.images, shard, tick)
