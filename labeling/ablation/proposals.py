"""The proposals of the held-out photos, made once for all rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from labeling.held_out import HeldOut
from maskclip.checkpoint import load_proposer
from maskclip.checkpoint_source import find_checkpoint, is_checkpoint
from proposal.checkpoint_files import CONFIG_NAME, WEIGHTS_NAME
from proposal.proposals import Proposals
from proposal.whole_file import open_whole


class ProposalCache:
    """What a proposer says of each held-out photo, on disk.

    Masks are kept as float16: half the room, and 0.0005 of a probability.
    """

    def __init__(self, folder: Path, spec: str, count: int) -> None:
        """Where the caches of all proposers are, the proposer, proposals kept of each photo."""
        self.spec = spec
        self.count = count
        self.key = f"{fingerprint_proposer(spec)}-{count}"
        self.folder = folder / self.key

    def fill(self, held_out: HeldOut) -> None:
        """Propose for the photos that are not there yet.

        Raises:
            FileNotFoundError, ValueError, OSError: as ``load_proposer``.
        """
        if all(self._path(photo.file_name).is_file() for photo in held_out.photos):
            return
        proposer = load_proposer(self.spec)
        for image, photo in held_out.each("proposals"):
            if not self._path(photo.file_name).is_file():
                with torch.no_grad():
                    self.store(photo.file_name, proposer.propose(image))

    def store(self, file_name: str, proposals: Proposals) -> None:
        """Keep the best proposals of one photo."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open_whole(self._path(file_name)) as file:
            np.savez(file, **_arrays(best_proposals(proposals, self.count)))

    def load(self, file_name: str) -> Proposals:
        """The proposals of one photo."""
        with np.load(self._path(file_name), allow_pickle=False) as content:
            parts = {name: torch.from_numpy(content[name]) for name in content.files}
        return Proposals(**{name: part.float() for name, part in parts.items()})

    def each(self, held_out: HeldOut) -> Iterator[Proposals]:
        """The proposals of every photo, in their order."""
        for photo in held_out.photos:
            yield self.load(photo.file_name)

    def _path(self, file_name: str) -> Path:
        return self.folder / f"{Path(file_name).stem}.npz"


def best_proposals(proposals: Proposals, count: int) -> Proposals:
    """The ``count`` of the highest scores, in the order in which they came."""
    best = proposals.scores.argsort(descending=True, stable=True)[:count]
    return proposals[best.sort().values]


def fingerprint_proposer(spec: str) -> str:
    """A key that changes with the weights and settings of a checkpoint; else the spec itself."""
    if not is_checkpoint(spec):
        return spec.replace("/", "_").replace(":", "_")
    digest = hashlib.sha256()
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        digest.update((find_checkpoint(spec) / name).read_bytes())
    return digest.hexdigest()[:10]


def _arrays(proposals: Proposals) -> dict[str, np.ndarray]:
    arrays = {name: part.numpy() for name, part in vars(proposals).items() if part is not None}
    return arrays | {"mask_probs": proposals.mask_probs.half().numpy()}
