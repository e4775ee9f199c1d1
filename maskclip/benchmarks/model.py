"""Which model is measured."""

from __future__ import annotations

from dataclasses import dataclass

from maskclip.checkpoint import load_clip, load_proposer
from maskclip.clip import MaskClip
from maskclip.prediction import load_segmentor
from maskclip.segmentor import Segmentor
from proposal.proposals import Proposer

OWN = "maskformer"  # the proposer that lies in the checkpoint


@dataclass(frozen=True)
class Model:
    """A model as the tools' flags say it; loaded anew in every process."""

    model: str = "nano"  # packaged name, folder or hub id
    proposer: str | None = None  # instead of the model's
    clip: str | None = None  # instead of the model's
    background: str = "none"  # in benchmarks every pixel gets a name
    overrides: tuple[str, ...] = ()  # such as segmentor.mask_threshold=0.4

    def segmentor(self, device: str = "auto") -> Segmentor:
        """Both stages."""
        return load_segmentor(
            self.model,
            proposer=self.proposer,
            clip=self.clip,
            device=device,
            background=self.background,
            overrides=self.overrides,
        )

    def stage1(self, device: str = "cpu") -> Proposer:
        """The proposer alone, as a run folder may hold it."""
        spec = self.model if self.proposer in (None, OWN) else self.proposer
        return load_proposer(spec, device, self._settings("proposer"))

    def stage2(self, device: str = "cpu") -> MaskClip:
        """The CLIP alone, as a run folder may hold it."""
        return load_clip(self.clip or self.model, device, self._settings("clip"))

    def _settings(self, section: str) -> list[str]:
        prefix = f"{section}."
        return [each.removeprefix(prefix) for each in self.overrides if each.startswith(prefix)]
