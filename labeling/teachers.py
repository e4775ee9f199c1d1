"""Closed-vocabulary DeepLab networks that name the pixels of photos without labels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from maskclip.photo_context import LONG_SIDE, deeplab_pixels

RENAMES = Path(__file__).with_name("data") / "teacher_names.json"
IGNORE = 255


@dataclass(frozen=True)
class TeacherWords:
    """What the rows of a teacher's output are called, row 0 (other, background) left out."""

    names: tuple[str, ...]  # plain English, in the order of the rows
    stuff: tuple[str, ...]  # those of ``names`` that are no COCO objects (sky, road, wall …)


def teacher_words(teacher: str) -> TeacherWords:
    """The words of ``voc`` or ``ade20k``, from the data file beside this module.

    Raises:
        ValueError: there is no such teacher.
    """
    words = json.loads(RENAMES.read_text(encoding="utf-8"))
    if teacher not in words:
        raise ValueError(f"teacher must be one of {sorted(words)}, got {teacher!r}")
    return TeacherWords(tuple(words[teacher]["names"]), tuple(words[teacher]["stuff"]))


class TeacherDeepLab(nn.Module):
    """DeepLabV3 (``voc``) or V3+ with a stride-4 decoder (``ade20k``) over MobileNetV2.

    B: images, C: names, H x W: image pixels, h x w: feature grid (stride 16, with decoder 4).
    """

    def __init__(self, words: TeacherWords, *, decoder: bool) -> None:
        super().__init__()
        self.names = words.names
        self.stuff = words.stuff
        self.trunk = timm.create_model(
            "mobilenetv2_100",
            pretrained=False,
            pad_type="same",
            features_only=True,
            out_indices=(4,),
            output_stride=16,
        )
        self.deeplab = _head(rows=1 + len(words.names), decoder=decoder)
        self.decoder = decoder
        self.eval()

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> TeacherDeepLab:
        """Load ``mobilenetv2_100_{voc,ade20k}_deeplab.safetensors``.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged or is no such network.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"expected the weights of a DeepLab teacher, got no file {path}"
            )
        try:
            state = {key: value.float() for key, value in load_file(path).items()}
        except SafetensorError as error:
            raise ValueError(f"{path} is not a readable safetensors file ({error})") from error
        teacher = "voc" if "voc" in path.name else "ade20k"
        model = cls(teacher_words(teacher), decoder="deeplab.conv0_depthwise.weight" in state)
        renamed = {k if k.startswith("deeplab.") else f"trunk.{k}": v for k, v in state.items()}
        try:
            model.load_state_dict(_without_counters(model, renamed))
        except RuntimeError as error:
            raise ValueError(f"{path} does not hold a DeepLab teacher: {error}") from error
        return model.to(device)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, 1 + C, h, w) logits; row 0 is other or background."""
        low, features = self._features(images)  # (B, 144, H/4, W/4), (B, 320, H/16, W/16)
        head = self.deeplab
        pooled = head["image_pooling"](features.mean(dim=(2, 3), keepdim=True)).relu()
        context = pooled.expand(-1, -1, *features.shape[-2:])
        x = torch.cat([context, head["aspp0"](features).relu()], dim=1)
        x = head["concat_projection"](x).relu()  # (B, 256, H/16, W/16)
        if self.decoder:
            x = F.interpolate(x, low.shape[-2:], mode="bilinear", align_corners=True)
            x = torch.cat([x, head["feature_projection"](low).relu()], dim=1)  # (B, 304, H/4, W/4)
            for name in _DECODER:
                x = head[name](x).relu()
        return head["logits"](x)

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) -> what the decoder and what the pyramid look at."""
        seen = []
        depthwise = self.trunk.blocks[1][1].bn2  # batch norm and ReLU6 after the convolution
        handle = depthwise.register_forward_hook(lambda *call: seen.append(call[-1]))
        try:
            (features,) = self.trunk(images)
        finally:
            handle.remove()
        return seen[0], features

    @torch.inference_mode()
    def probs(self, image: np.ndarray, *, others: bool = True) -> Tensor:
        """(H, W, 3) uint8 RGB -> (1 + C, H, W) probabilities, or (C, H, W) without ``others``.

        Row 0 is other or background; without it the names share the probability among themselves.
        """
        height, width = image.shape[:2]
        pixels = deeplab_pixels(image, next(self.parameters()).device, LONG_SIDE)
        logits = self(pixels)  # (1, 1 + C, h, w)
        logits = F.interpolate(logits, (height, width), mode="bilinear", align_corners=True)[0]
        return (logits if others else logits[1:]).softmax(dim=0)

    def segment(
        self, image: np.ndarray, *, background: bool = False
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """(H, W, 3) uint8 RGB -> (H, W) int64 labels, and the names that they index.

        By default every pixel gets the best of the names, as in benchmarks that ignore the
        background; with ``background``, pixels that row 0 wins are 255.
        """
        winner = self.probs(image, others=background).argmax(dim=0).cpu().numpy()
        labels = np.where(winner == 0, IGNORE, winner - 1) if background else winner
        return labels.astype(np.int64), self.names


_DECODER = ("conv0_depthwise", "conv0_pointwise", "conv1_depthwise", "conv1_pointwise")


def _head(rows: int, *, decoder: bool) -> nn.ModuleDict:
    """The convolutions of the head by their published names; all but ``logits`` have a ReLU."""
    head = {
        "image_pooling": nn.Conv2d(320, 256, 1),
        "aspp0": nn.Conv2d(320, 256, 1),
        "concat_projection": nn.Conv2d(512, 256, 1),
        "logits": nn.Conv2d(256, rows, 1),
    }
    if decoder:
        head |= {
            "feature_projection": nn.Conv2d(144, 48, 1),
            "conv0_depthwise": nn.Conv2d(304, 304, 3, padding=1, groups=304),
            "conv0_pointwise": nn.Conv2d(304, 256, 1),
            "conv1_depthwise": nn.Conv2d(256, 256, 3, padding=1, groups=256),
            "conv1_pointwise": nn.Conv2d(256, 256, 1),
        }
    return nn.ModuleDict(head)


def _without_counters(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add the batch norms' step counters, which the files do not hold."""
    own = model.state_dict()
    counters = {key: value for key, value in own.items() if key.endswith("num_batches_tracked")}
    return counters | state
