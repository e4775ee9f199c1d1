"""CLIP that encodes masked regions as well as names."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskclip.clip_config import PRECISIONS, ClipConfig
from maskclip.crops import crop_regions, widen_boxes
from maskclip.dense_head import DenseHead
from maskclip.names import Vocabulary, parse_names
from maskclip.photo_context import PhotoContext, count_channels
from maskclip.pixel_prompt import PixelPrompt
from maskclip.templates import load_templates
from maskclip.text import TextEncoder
from maskclip.text_context import TextContext
from maskclip.tower import MaskPromptedTower

NEAR = 0.85  # cosine of two texts that may stand for one thing
CPU_BATCH, BATCH = 8, 32  # crops in one forward of the tower


class MaskClip(nn.Module):
    """Both towers of a CLIP, the image tower mask-prompted, the text tower locked.

    N: crops, S: their side, D: embedding size, K: synonyms of all names.

    A state dict holds ``tower.*`` (with ``tower.prompts`` where there are any),
    ``log_logit_scale``, where there are such ``pixel_prompt.*``, ``text_context.*`` and
    ``photo_context.*``, ``dense_head.*`` and, unless the text tower comes from a package,
    ``text.*``. Gradients flow into all but the text tower, the photo's trunk and DeepLab's part of
    the dense head: inference wants ``torch.no_grad()``.
    """

    def __init__(
        self, config: ClipConfig, model: nn.Module, tokenizer: Callable[..., Tensor]
    ) -> None:
        """A configuration, the open_clip CustomTextCLIP it describes, and its tokenizer."""
        super().__init__()
        context, detector = config.photo_context, config.photo_detector
        self.tower = MaskPromptedTower(
            model.visual, config.prompt_depth, context=context, detector_too=detector
        )
        self.photo_context = PhotoContext(detector_too=detector) if context else None
        self.dense_head = None
        if config.dense_width:
            self.dense_head = DenseHead(
                int(config.model["embed_dim"]), config.dense_width, count_channels(detector)
            )
        self.log_logit_scale = model.logit_scale
        model.text.requires_grad_(False)
        model.text.eval()
        self._locked_text = []  # a list hides the packaged tower from state_dict and parameters
        if config.text_is_packaged:
            self._locked_text.append(model.text)
        else:
            self.text = model.text
        self.pixel_prompt = self.text_context = None
        if config.pixel_prompt:
            self.pixel_prompt = PixelPrompt(config.pixel_prompt, self.side)
        if config.text_context:
            self.text_context = TextContext(config.text_context, model, tokenizer)
        self.text_encoder = TextEncoder(model, tokenizer, context=self.text_context)
        self._memo: tuple[tuple, Tensor, Tensor] | None = None  # the last names' embeddings
        self._taught: tuple[tuple, Tensor] | None = None  # those of the nouns it was trained on
        for name in ("mean", "std"):
            self.register_buffer(name, torch.zeros(3, 1, 1), persistent=False)
        self.change(config)
        self.eval()

    def change(self, config: ClipConfig) -> None:
        """Take other settings, of the same model and the same learned parts."""
        self.config = config
        for name in ("mean", "std"):
            values = torch.tensor(getattr(config, name))[:, None, None]  # (3, 1, 1)
            getattr(self, name).copy_(values)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MaskClip:
        """``to``, ``half`` and the like also reach the hidden text tower."""
        for text in self._locked_text:
            text._apply(fn, recurse)
        return super()._apply(fn, recurse)

    @property
    def side(self) -> int:
        """S, the side of the crops that the tower takes."""
        size = self.tower.visual.image_size
        return int(size[0] if isinstance(size, Sequence) else size)

    @property
    def embed_dim(self) -> int:
        """D."""
        return int(self.config.model["embed_dim"])

    @property
    def fill_colour(self) -> Tensor:
        """(3,) RGB in 0-255, what the outside of a mask is filled with: mostly the mean colour."""
        return 255 * torch.tensor(self.config.fill or self.config.mean)

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied with: the exponential of ``log_logit_scale``."""
        return float(self.log_logit_scale.detach().exp())

    @torch.no_grad()
    def set_logit_scale(self, scale: float) -> None:
        """Let cosines be multiplied with ``scale`` (above 0)."""
        self.log_logit_scale.fill_(math.log(scale))

    @property
    def device(self) -> torch.device:
        """Where the towers are."""
        return self.log_logit_scale.device

    @property
    def text_fingerprint(self) -> str:
        """SHA-256 of all that text embeddings depend on: the text tower and its tokenizer."""
        return self.text_encoder.fingerprint

    def normalise(self, crops: Tensor) -> Tensor:
        """(N, 3, S, S) RGB in 0-255 -> (N, 3, S, S), what the tower reads.

        Channels lie last in memory: a hybrid's trunk then takes 1.7 times less on a CPU.
        """
        normalised = (crops.to(self.mean) / 255 - self.mean) / self.std
        return normalised.contiguous(memory_format=torch.channels_last)

    def crop(
        self, image: np.ndarray, masks: Tensor, boxes_xyxy: Tensor, *, compat: bool = False
    ) -> tuple[Tensor, Tensor]:
        """(H, W, 3) uint8 RGB, (N, h, w) bool, their tight boxes (N, 4) -> what the tower reads.

        Crops (N, 3, S, S) 0-255 and crop_masks (N, S, S) as ``crop_regions`` makes them, with this
        model's margin, background and interpolation.
        """
        config = self.config
        return crop_regions(
            image,
            masks,
            widen_boxes(boxes_xyxy, config.box_margin, masks.shape[1:]),
            self.side,
            self.fill_colour,
            compat=compat,
            background=config.background,
            background_strength=config.background_strength,
            interpolation=config.interpolation,
        )

    def see(self, image: np.ndarray) -> Tensor | None:
        """(H, W, 3) uint8 RGB -> the photo's map, of which ``context`` is made; none without."""
        return None if self.photo_context is None else self.photo_context.see(image)

    def context(self, seen: Tensor | None, masks: Tensor) -> Tensor | None:
        """What ``see`` gave and (N, h, w) bool masks over the photo -> (N, 2, F), or none."""
        if seen is None:
            return None
        return self.photo_context.pool(seen, masks.to(seen.device))

    def check_dense(self) -> None:
        """Raise ValueError if there is no head that names places of a photo."""
        if self.dense_head is None:
            raise ValueError(
                "segmentor.dense_weight needs a CLIP with a dense head (train_net --stage dense), "
                "and this one has none: set dense_weight to 0"
            )

    def encode_places(self, seen: Tensor) -> Tensor:
        """What ``see`` gave, (F, u, v) -> (D, u, v) unit length, of the texts' space.

        Raises:
            ValueError: as ``check_dense``.
        """
        self.check_dense()
        return self.dense_head.embed_map(seen)

    def encode_regions(
        self,
        crops: Tensor,
        crop_masks: Tensor,
        context: Tensor | None = None,
        *,
        batch_size: int = 0,
    ) -> Tensor:
        """(N, 3, S, S) RGB in 0-255, (N, S, S) bool masks, their context -> (N, D) unit length.

        The crops go through the tower ``batch_size`` at a time, so that memory is bounded; 0 takes
        8 on a CPU, whose cache holds what these make of them, and 32 elsewhere.
        """
        self._check_crops(crops, crop_masks)
        batch_size = batch_size or (CPU_BATCH if self.device.type == "cpu" else BATCH)
        chunks = []
        for first in range(0, max(1, len(crops)), batch_size):
            some = slice(first, first + batch_size)
            seen = None if context is None else context[some].to(self.device)
            chunks.append(
                self.embed(crops[some].to(self.device), crop_masks[some].to(self.device), seen)
            )
        return F.normalize(torch.cat(chunks), dim=-1)  # (N, D)

    def embed(self, crops: Tensor, crop_masks: Tensor, context: Tensor | None = None) -> Tensor:
        """(N, 3, S, S) RGB in 0-255 and (N, S, S) bool masks -> (N, D), all at once, any length."""
        pixels = self.normalise(crops)
        if self.pixel_prompt is not None:
            pixels = self.pixel_prompt(pixels, crop_masks)
        if not self.config.mask_prompts:
            crop_masks = torch.ones_like(crop_masks)
        if self.config.precision == "fp32":
            return self.tower(pixels, crop_masks, context)  # (N, D)
        with torch.autocast(self.device.type, PRECISIONS[self.config.precision]):
            return self.tower(pixels, crop_masks, context).float()  # (N, D)

    def encode_names(self, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """C names, ``|`` between synonyms -> (K, D) unit length and (K,) int64, each one's name.

        Equal names are merged, as by ``parse_names``, whose order is that of the name indices.
        """
        vocabulary = parse_names(names)
        key = (vocabulary, self.config.templates, self.text_fingerprint, self.device)
        if self._memo is None or self._memo[0] != key:
            templates = load_templates(self.config.templates)
            embeddings = self.text_encoder.encode_names(vocabulary, templates)  # (K, D)
            owner = torch.tensor(vocabulary.owner, device=self.device)  # (K,)
            self._memo = (key, embeddings, owner)
        return self._memo[1].clone(), self._memo[2].clone()

    def encode_nouns(self, nouns: tuple[str, ...]) -> Tensor:
        """K nouns, ``|`` and equal ones included as they are -> (K, D) unit length."""
        vocabulary = Vocabulary(nouns, nouns, tuple(range(len(nouns))))
        templates = load_templates(self.config.templates)
        return self.text_encoder.encode_names(vocabulary, templates).to(self.device)

    def check_taught(self) -> None:
        """Raise ValueError if it is not known which nouns the image tower was trained on."""
        if not self.config.taught:
            raise ValueError(
                "segmentor.head_start needs a CLIP that lists the nouns it was trained on "
                "(clip.taught), and this one does not: set head_start to 0"
            )

    def find_untaught(self, text_embeddings: Tensor) -> Tensor:
        """(K, D) unit length -> (K,) bool: texts that are near no noun of ``config.taught``.

        Raises:
            ValueError: as ``check_taught``.
        """
        self.check_taught()
        config = self.config
        key = (config.taught, config.templates, self.text_fingerprint, self.device)
        if self._taught is None or self._taught[0] != key:
            self._taught = (key, self.encode_nouns(config.taught))  # (nouns, D)
        cosines = text_embeddings @ self._taught[1].mT  # (K, nouns)
        return cosines.amax(dim=1) < NEAR

    def _check_crops(self, crops: Tensor, crop_masks: Tensor) -> None:
        side = self.side
        if crops.ndim != 4 or crops.shape[1:] != (3, side, side):
            raise ValueError(f"crops must be (N, 3, {side}, {side}), got {tuple(crops.shape)}")
        if crop_masks.shape != (len(crops), side, side):
            expected, got = (len(crops), side, side), tuple(crop_masks.shape)
            raise ValueError(f"crop_masks must be {expected} to match crops, got {got}")
