"""What happens around the steps of an adaptation."""

from __future__ import annotations

from detectron2.engine import HookBase

from maskclip.clip import MaskClip


class NoteScale(HookBase):
    """Notes the logit scale."""

    def __init__(self, clip: MaskClip) -> None:
        self.clip = clip

    def after_step(self) -> None:
        """Note it."""
        self.trainer.storage.put_scalar("logit_scale", self.clip.logit_scale)
