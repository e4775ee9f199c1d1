"""CLIP's image tower, told which patches lie outside the mask."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer as OpenClipViT
from timm.layers import HybridEmbed
from timm.models import Eva
from timm.models import VisionTransformer as TimmViT
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from maskclip.hybrid import hybrid_trunk
from maskclip.photo_context import ContextTokens
from proposal.inference_copy import InferenceCopy

PROMPT_STD = 0.02  # of the prompts' initial values (SPEC 3)


class MaskPromptedTower(nn.Module):
    """Wraps an open_clip image tower; patches outside the mask become learned prompts.

    N: crops, S: their side, P: patches (h * w), E: tower width, D: embedding size, L: prompted
    layers, F: channels of a trunk, X: tokens before the patches, Y: of the photo's context.
    ``depth`` 0 has no prompts, ignores the masks, and takes any tower. Batch norms keep the
    statistics they were loaded with, in training too: the trunks come with theirs folded in, and
    batches of crops of one photo are no sample.

    Raises:
        ValueError: ``depth`` prompts do not fit the tower.
    """

    def __init__(
        self,
        visual: nn.Module,
        depth: int = 0,
        *,
        context: bool = False,
        detector_too: bool = False,
    ) -> None:
        """``context``: regions come with what is seen of their photos, as further tokens.

        ``detector_too``: a detector sees the photos as well.
        """
        super().__init__()
        self.visual = visual
        self.depth = depth
        needed = depth > 0 or context or _has_trunk(visual)
        self.tokens = token_path(visual) if needed else None
        self.context = None
        if context:
            self.context = ContextTokens(self.tokens.width, detector_too=detector_too)
        self.prompts = None
        self.recompute = False  # see set_grad_checkpointing
        if depth < 0:
            raise ValueError(f"depth must be 0 (no prompts) or more, got {depth}")
        if depth:
            self._add_prompts(depth)

    def _add_prompts(self, depth: int) -> None:
        layers = len(self.tokens.blocks)
        if depth > layers:
            raise ValueError(f"prompt depth {depth} exceeds the {layers} blocks of the tower")
        shape = (depth, math.prod(self.tokens.grid), self.tokens.width)
        self.prompts = nn.Parameter(PROMPT_STD * torch.randn(shape))  # (L, P, E)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Let blocks forget what is inside them; the backward pass computes it again."""
        self.recompute = enable
        self.visual.set_grad_checkpointing(enable)

    def train(self, mode: bool = True) -> MaskPromptedTower:
        """Switch dropout on or off; batch norms stay as they are."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, crops: Tensor, crop_masks: Tensor, context: Tensor | None = None) -> Tensor:
        """(N, 3, S, S) normalised crops and (N, S, S) bool masks -> (N, D) embeddings.

        ``context``: (N, 2, F), if the tower was made for it.
        """
        if not len(crops):  # many towers cannot take that: they see a blank crop, dropped again
            return self(_one(crops), _one(crop_masks), _one(context))[:0]
        if self.tokens is None:
            embeddings = self.visual(crops)
            return embeddings[0] if isinstance(embeddings, tuple) else embeddings
        return self._encode(self.tokens.project(crops), crop_masks, context)

    def trunk_features(self, crops: Tensor) -> Tensor:
        """(N, 3, S, S) normalised crops -> (N, F, h, w), what a hybrid's trunk makes of them."""
        self._need_trunk()
        return self.tokens.trunk_features(crops)

    def forward_features(
        self, features: Tensor, crop_masks: Tensor, context: Tensor | None = None
    ) -> Tensor:
        """(N, F, h, w) trunk features and (N, S, S) bool masks -> (N, D) embeddings."""
        self._need_trunk()
        if not len(features):
            return self.forward_features(_one(features), _one(crop_masks), _one(context))[:0]
        return self._encode(self.tokens.project_features(features), crop_masks, context)

    def _need_trunk(self) -> None:
        if not _has_trunk(self.visual):
            raise ValueError("this tower has no convolutional trunk: only hybrid towers have one")

    def _encode(self, patches: Tensor, crop_masks: Tensor, context: Tensor | None) -> Tensor:
        """(N, P, E) patches, (N, S, S) masks, (N, 2, F) context or none -> (N, D)."""
        tokens = self.tokens
        if self.depth == 0:
            sequence = self._join(tokens.begin(patches), context)
            for block in tokens.blocks:
                sequence = self._pass(block, sequence)
            return tokens.finish(sequence)
        inside = inside_patches(crop_masks, tokens.cell, tokens.grid)  # (N, P, 1)
        prompts = self.prompts.to(patches.dtype)
        sequence = tokens.begin(torch.where(inside, patches, prompts[0]))  # (N, X + P, E)
        sequence = self._join(sequence, context)  # (N, X + P + Y, E)
        count = math.prod(tokens.grid)
        for layer, block in enumerate(tokens.blocks, start=1):
            sequence = self._pass(block, sequence)
            if layer < self.depth:
                special, patches, rest = sequence.tensor_split(
                    [tokens.prefix, tokens.prefix + count], dim=1
                )
                patches = torch.where(inside, patches, prompts[layer])
                sequence = torch.cat([special, patches, rest], dim=1)
        return tokens.finish(sequence)

    def _join(self, sequence: Tensor, context: Tensor | None) -> Tensor:
        """(N, X + P, E) -> the same with the Y tokens of the context behind, if there are any."""
        if (context is None) != (self.context is None):
            has, got = ("needs", "none") if self.context is not None else ("takes no", "some")
            raise ValueError(f"this tower {has} photo context with its crops, got {got}")
        if context is None:
            return sequence
        return torch.cat([sequence, self.context(context).to(sequence.dtype)], dim=1)

    def _pass(self, block: Callable[[Tensor], Tensor], sequence: Tensor) -> Tensor:
        """(N, X + P, E) -> (N, X + P, E)."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(block, sequence, use_reentrant=False)
        return block(sequence)


def _one(nothing: Tensor | None) -> Tensor | None:
    """(0, ...) -> a blank one, (1, ...)."""
    return None if nothing is None else nothing.new_zeros(1, *nothing.shape[1:])


def inside_patches(crop_masks: Tensor, cell: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """(N, S, S) bool masks -> (N, P, 1) bool: patches with any pixel of the mask in their cell."""
    height, width = cell[0] * grid[0], cell[1] * grid[1]
    if crop_masks.ndim != 3 or crop_masks.shape[1] < height or crop_masks.shape[2] < width:
        expected, got = f"(N, {height}, {width})", tuple(crop_masks.shape)
        raise ValueError(f"crop_masks must be at least {expected} for this tower, got {got}")
    pixels = crop_masks[:, None, :height, :width].float()
    return (F.max_pool2d(pixels, cell) > 0).flatten(2).mT  # (N, P, 1)


def token_path(visual: nn.Module) -> OpenClipTokens | TimmTokens:
    """The way of a tower's tokens from patches to embedding, which mask prompts step into.

    Raises:
        ValueError: the tower is no vision transformer with a class token.
    """
    if isinstance(visual, OpenClipViT):
        return OpenClipTokens(visual)
    trunk = getattr(visual, "trunk", visual)
    if _has_class_token(trunk):
        return TimmTokens(visual)
    without = " without one" if isinstance(trunk, TimmViT | Eva) else ""
    raise ValueError(
        "mask prompts need open_clip's own vision transformer, or one of timm's with a class "
        f"token, got a {type(trunk).__name__}{without}: set prompt_depth to 0 to use this tower "
        "without them"
    )


def _has_class_token(trunk: nn.Module) -> bool:
    return isinstance(trunk, TimmViT | Eva) and trunk.cls_token is not None


def _has_trunk(visual: nn.Module) -> bool:
    trunk = getattr(visual, "trunk", None)
    return _has_class_token(trunk) and isinstance(trunk.patch_embed, HybridEmbed)


class OpenClipTokens:
    """Tokens of open_clip's own VisionTransformer, whatever its readout.

    Patch dropout is left out: prompts need every patch in its place. It is off in evaluation.
    """

    prefix = 1  # tokens before the patches

    def __init__(self, visual: OpenClipViT) -> None:
        self.visual = visual
        self.grid: tuple[int, int] = tuple(visual.grid_size)
        self.cell: tuple[int, int] = tuple(visual.patch_size)
        self.width: int = visual.conv1.out_channels

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The transformer's blocks, first to last."""
        return self.visual.transformer.resblocks

    def project(self, crops: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, P, E)."""
        return self.visual.conv1(crops).flatten(2).mT

    def begin(self, patches: Tensor) -> Tensor:
        """(N, P, E) patches -> (N, 1 + P, E), what the first block reads."""
        visual = self.visual
        special = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        sequence = torch.cat([special, patches], dim=1)  # (N, 1 + P, E)
        return visual.ln_pre(sequence + visual.positional_embedding.to(patches.dtype))

    def finish(self, sequence: Tensor) -> Tensor:
        """(N, 1 + P, E), what the last block wrote -> (N, D)."""
        pooled, _ = self.visual._pool(sequence)  # class token, mean or attentional pooler
        return pooled if self.visual.proj is None else pooled @ self.visual.proj


class TimmTokens:
    """Tokens of a timm VisionTransformer or Eva, plain or hybrid, inside open_clip's TimmModel."""

    def __init__(self, visual: TimmModel) -> None:
        trunk = visual.trunk
        self.visual = visual
        self._inference = InferenceCopy()  # of a hybrid's trunk
        self.prefix: int = trunk.num_prefix_tokens
        self.grid: tuple[int, int] = tuple(trunk.patch_embed.grid_size)
        self.cell: tuple[int, int] = tuple(trunk.patch_embed.feat_ratio(as_scalar=False))
        self.width: int = trunk.embed_dim

    @property
    def blocks(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """The transformer's blocks, first to last."""
        trunk = self.visual.trunk
        if getattr(trunk, "rope", None) is None:
            return trunk.blocks
        angles = self._rotary_angles()
        per_block = angles if getattr(trunk, "rope_mixed", False) else [angles] * len(trunk.blocks)
        return [
            partial(block, rope=rope) for block, rope in zip(trunk.blocks, per_block, strict=True)
        ]

    def trunk_features(self, crops: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, F, h, w)."""
        features = self._inference.of(hybrid_trunk(self.visual))(crops)
        return features[-1] if isinstance(features, (list, tuple)) else features

    def project_features(self, features: Tensor) -> Tensor:
        """(N, F, h, w) -> (N, P, E)."""
        return self.visual.trunk.patch_embed.proj(features).flatten(2).mT

    def project(self, crops: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, P, E)."""
        if _has_trunk(self.visual):
            return self.project_features(self.trunk_features(crops))
        patches = self.visual.trunk.patch_embed(crops)
        return patches.flatten(1, 2) if patches.ndim == 4 else patches

    def begin(self, patches: Tensor) -> Tensor:
        """(N, P, E) patches -> (N, X + P, E), what the first block reads."""
        trunk = self.visual.trunk
        return trunk.norm_pre(self._placed(patches)[0])

    def finish(self, sequence: Tensor) -> Tensor:
        """(N, X + P, E), what the last block wrote -> (N, D)."""
        trunk = self.visual.trunk
        return self.visual.head(trunk.forward_head(trunk.norm(sequence)))

    def _placed(self, patches: Tensor) -> tuple[Tensor, Tensor | None]:
        """(N, P, E) patches -> (N, X + P, E) with their positions, and rotary angles if any."""
        trunk = self.visual.trunk
        if trunk.dynamic_img_size:  # then timm adds positions to the grid, not to the sequence
            patches = patches.unflatten(1, self.grid)
        placed = trunk._pos_embed(patches)
        return placed if isinstance(placed, tuple) else (placed, None)

    def _rotary_angles(self) -> Tensor:
        """Of the patches' places; the same for all crops."""
        trunk = self.visual.trunk
        weight = next(trunk.blocks.parameters())
        return self._placed(weight.new_zeros(1, math.prod(self.grid), self.width))[1]
