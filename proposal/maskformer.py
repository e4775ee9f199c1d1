"""MaskFormer: one mask, with one guess at what it shows, per learned query."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from proposal.backbones import BackboneConfig, build_backbone
from proposal.pixel_decoder import PixelDecoder
from proposal.query_grid import grid_points, pyramid_points, spread_queries
from proposal.soft_boxes import SoftBoxes
from proposal.transformer_decoder import (
    Mlp,
    TransformerDecoder,
    TransformerEncoder,
    grid_positions,
)

TEMPERATURE = 100.0  # what cosines are multiplied by to become class logits
CLASSIFIERS = ("objectness", "text", "both")
QUERY_INITS = ("normal", "grid")


@dataclass(frozen=True)
class MaskFormerConfig:
    """Sizes of the network; the defaults are the published ones."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    hidden_dim: int = 256  # width of the transformer
    dim_feedforward: int = 2048
    conv_dim: int = 256  # width of the pixel decoder, a multiple of 32
    mask_dim: int = 256  # of one pixel's embedding
    num_queries: int = 100
    nheads: int = 8
    enc_layers: int = 0
    dec_layers: int = 6
    dropout: float = 0.1
    # "text": queries answer in CLIP's space, no-object included; "both": objectness, and a second
    # head that names what is an object in CLIP's space
    classifier: str = "objectness"
    embed_dim: int = 512  # of CLIP's space; text and both
    training_names: int = 0  # how many names the training had; text keeps their embeddings
    class_hidden_dim: int = 1024  # of the classifiers' hidden layers
    query_init: str = "normal"  # or "grid": each query starts at a place of its own (small data)
    places: bool = False  # tell values, queries and pixels where they are, not only the keys
    soft_boxes: bool = False  # masks are expected in a box that each query moves (small data)
    enforce_input_proj: bool = False  # project the memory even where the widths are equal
    short_side: int = 512  # of the resized image, as long as the long side stays within max_size
    max_size: int = 2048
    size_divisibility: int = 32
    # On the CPU compute as the published masks were: photo by photo, with two threads. Networks of
    # steep attention magnify rounding, which depends on both, until other masks come out.
    published_rounding: bool = False
    pixel_mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    pixel_std: tuple[float, ...] = (58.395, 57.12, 57.375)

    def __post_init__(self) -> None:
        if self.classifier not in CLASSIFIERS:
            raise ValueError(f"classifier must be one of {CLASSIFIERS}, got {self.classifier!r}")
        if self.query_init not in QUERY_INITS:
            raise ValueError(f"query_init must be one of {QUERY_INITS}, got {self.query_init!r}")
        if self.hidden_dim % self.nheads or self.hidden_dim % 4:
            raise ValueError(
                f"hidden_dim must be a multiple of 4 and of nheads = {self.nheads}, "
                f"got {self.hidden_dim}"
            )


@dataclass(frozen=True)
class MaskFormerOutput:
    """What the queries say after one decoder layer. B: images, Q: queries, h x w: stride 4."""

    mask_logits: Tensor  # (B, Q, h, w)
    object_logits: Tensor | None = None  # (B, Q, 2): object, no object; "objectness" and "both"
    class_embeddings: Tensor | None = None  # (B, Q, D), not normalised; "text" and "both"
    no_object: Tensor | None = None  # (D,), the parameter that goes with them; "text"
    auxiliary: tuple[MaskFormerOutput, ...] = ()  # of the earlier layers; only in training mode


class MaskFormer(nn.Module):
    """SPEC 1's network. B: images, Q: queries, E: width, D: size of CLIP's space, P = h * w."""

    def __init__(self, config: MaskFormerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_dim
        self.backbone = build_backbone(config.backbone)
        channels = self.backbone.channels
        self.pixel_decoder = PixelDecoder(channels, config.conv_dim, config.mask_dim)
        # Equal widths need no projection, and published checkpoints then mostly hold none.
        equal = channels[-1] == width and not config.enforce_input_proj
        self.input_proj = nn.Identity() if equal else nn.Conv2d(channels[-1], width, 1)
        sizes = {"feedforward": config.dim_feedforward, "dropout": config.dropout}
        self.encoder = TransformerEncoder(config.enc_layers, width, config.nheads, **sizes)
        self.decoder = TransformerDecoder(config.dec_layers, width, config.nheads, **sizes)
        self.query_embed = nn.Embedding(config.num_queries, width)
        text = config.classifier == "text"
        self.class_embed = Mlp(width, config.class_hidden_dim, config.embed_dim if text else 2)
        self.mask_embed = Mlp(width, width, width, config.mask_dim)
        if text:
            self.no_object = nn.Parameter(torch.randn(config.embed_dim))
        if config.classifier != "objectness":
            texts = torch.zeros(config.training_names, config.embed_dim)
            # Scores of "text" are taken over them; "both" needs them in training only
            self.register_buffer("training_text_embeddings", texts, persistent=text)
        points = grid_points(config.num_queries)  # (Q, 2)
        if config.soft_boxes:
            points, radii = pyramid_points(config.num_queries)
            self.soft_boxes = SoftBoxes(points, radii, width)
        self.reset_transformer(points)
        if config.classifier == "both":  # drawn last: all else starts as without it
            self.name_embed = Mlp(width, config.class_hidden_dim, config.embed_dim)

    @torch.no_grad()
    def reset_transformer(self, points: Tensor) -> None:
        """Draw the transformer's weights, and place queries at (Q, 2) points if so configured."""
        for part in (self.encoder, self.decoder):
            for parameter in part.parameters():
                if parameter.ndim > 1:
                    nn.init.xavier_uniform_(parameter)
        if self.config.query_init == "grid":
            spread_queries(self.query_embed.weight, points, self.decoder, self.input_proj)

    def forward(self, images: Tensor) -> MaskFormerOutput:
        """(B, 3, H, W) normalised, padded images -> the last layer's output with the others'."""
        maps = self.backbone(images)
        pixel_embeddings = self.pixel_decoder(maps, self.config.places)  # (B, mask_dim, h, w)
        memory = self.input_proj(maps[-1])  # (B, E, h, w) at stride 32
        positions = grid_positions(*memory.shape[-2:], self.config.hidden_dim, memory.device)
        memory = self.encoder(memory.flatten(2).mT, positions)  # (B, P, E)
        places, keys = self.query_embed.weight, memory + positions  # (Q, E), (B, P, E)
        start, values = (places, keys) if self.config.places else (torch.zeros_like(places), memory)
        queries = self.decoder(start, places, values, keys)
        if not self.training:
            return self.answer(queries[-1], pixel_embeddings)
        outputs = [self.answer(layer, pixel_embeddings) for layer in queries]
        last = outputs.pop()
        return replace(last, auxiliary=tuple(outputs))

    def answer(self, queries: Tensor, pixel_embeddings: Tensor) -> MaskFormerOutput:
        """(B, Q, E) queries, (B, mask_dim, h, w) -> masks and classes of one decoder layer."""
        mask_embeddings = self.mask_embed(queries)  # (B, Q, mask_dim)
        mask_logits = torch.einsum("bqc,bchw->bqhw", mask_embeddings, pixel_embeddings)
        if self.config.soft_boxes:
            mask_logits = mask_logits + self.soft_boxes(queries, pixel_embeddings.shape[-2:])
        answers = self.class_embed(queries)  # (B, Q, 2) or (B, Q, D)
        if self.config.classifier == "text":
            return MaskFormerOutput(mask_logits, class_embeddings=answers, no_object=self.no_object)
        named = self.name_embed(queries) if self.config.classifier == "both" else None  # (B, Q, D)
        return MaskFormerOutput(mask_logits, object_logits=answers, class_embeddings=named)

    def class_logits(self, output: MaskFormerOutput, text_embeddings: Tensor) -> Tensor:
        """Output, (C, D) texts -> (B, Q, C + 1), no-object last; (B, Q, C) of "both"."""
        return class_logits(output.class_embeddings, text_embeddings, output.no_object)


def class_logits(embeddings: Tensor, text_embeddings: Tensor, no_object: Tensor | None) -> Tensor:
    """(..., D) embeddings, (C, D) texts, (D,) no-object -> (..., C + 1) scaled cosines.

    Without a no-object vector (..., C): of the names alone.
    """
    texts = text_embeddings
    if no_object is not None:
        texts = torch.cat([texts, no_object[None]])  # (C + 1, D)
    return TEMPERATURE * F.normalize(embeddings, dim=-1) @ F.normalize(texts, dim=-1).mT
