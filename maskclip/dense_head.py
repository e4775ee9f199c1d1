"""Names for places of a photo, whatever masks there are: a head on the photo's map."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from maskclip.photo_context import CHANNELS

DEEPLAB_WIDTH = 256
DEEPLAB = ("image_pooling", "aspp0", "concat_projection")  # layers, as the weights' file has them
ROWS = "logits"  # its last one, which names closed classes


class DenseHead(nn.Module):
    """Embeds each cell of a photo's map in CLIP's space.

    What DeepLab's own head makes of the map (frozen), beside the map, goes through two layers into
    the space of the texts. Ours; LSeg (arXiv 2201.03546) compares pixels with texts likewise. All
    of it is 1 x 1, so that cells need no grid here. n: cells, F: channels of the map, of which
    DeepLab's trunk made the first 320, D: embedding size.
    """

    def __init__(self, embed_dim: int, width: int, channels: int = CHANNELS) -> None:
        super().__init__()
        self.image_pooling = nn.Linear(CHANNELS, DEEPLAB_WIDTH)
        self.aspp0 = nn.Linear(CHANNELS, DEEPLAB_WIDTH)
        self.concat_projection = nn.Linear(2 * DEEPLAB_WIDTH, DEEPLAB_WIDTH)
        for name in DEEPLAB:
            getattr(self, name).requires_grad_(False)
        self.norm = nn.LayerNorm(2 * channels + DEEPLAB_WIDTH)
        self.hidden = nn.Linear(2 * channels + DEEPLAB_WIDTH, width)
        self.dropout = nn.Dropout(0.2)
        self.proj = nn.Linear(width, embed_dim)

    def load(self, path: str | Path) -> nn.Linear:
        """Take DeepLab's layers from its safetensors file -> its last layer, (classes, 256).

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged, or holds no such head.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"no weights of a DeepLab head at {path}: give its .safetensors"
            )
        try:
            stored = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} cannot be read as safetensors ({error})") from error
        for name in DEEPLAB:
            getattr(self, name).load_state_dict(_as_linear(stored, name, path))
        rows = _as_linear(stored, ROWS, path)
        last = nn.Linear(DEEPLAB_WIDTH, len(rows["bias"]))
        last.load_state_dict(rows)
        return last.requires_grad_(False)

    def read(self, cells: Tensor, whole: Tensor) -> Tensor:
        """(n, F), the means of their photos (n, F) -> (n, 256), what DeepLab's last layer reads."""
        pooled = self.image_pooling(whole[:, :CHANNELS]).relu()
        here = self.aspp0(cells[:, :CHANNELS]).relu()
        return self.concat_projection(torch.cat([pooled, here], 1)).relu()

    def forward(self, cells: Tensor, whole: Tensor) -> Tensor:
        """(n, F), the means of their photos (n, F) -> (n, D) unit length."""
        seen = torch.cat([cells, whole, self.read(cells, whole)], dim=1)
        hidden = F.gelu(self.hidden(self.norm(seen)))
        return F.normalize(self.proj(self.dropout(hidden)), dim=1)

    @torch.no_grad()
    def embed_map(self, seen: Tensor) -> Tensor:
        """(F, u, v), what ``PhotoContext.see`` gave -> (D, u, v) unit length."""
        cells = seen.flatten(1).mT.to(self.proj.weight)  # (u * v, F)
        whole = cells.mean(dim=0).expand_as(cells)
        return self(cells, whole).float().mT.reshape(-1, *seen.shape[1:])


def _as_linear(stored: dict[str, Tensor], name: str, path: Path) -> dict[str, Tensor]:
    """A 1 x 1 convolution of the file, as the weights of a linear layer."""
    keys = {part: f"deeplab.{name}.{part}" for part in ("weight", "bias")}
    if missing := [key for key in keys.values() if key not in stored]:
        raise ValueError(f"{path} holds no DeepLab head: it lacks {missing[0]}")
    weights = {part: stored[key].float().squeeze() for part, key in keys.items()}
    inputs = {"concat_projection": 2 * DEEPLAB_WIDTH, ROWS: DEEPLAB_WIDTH}.get(name, CHANNELS)
    if weights["weight"].ndim != 2 or weights["weight"].shape[1] != inputs:
        shape = tuple(stored[keys["weight"]].shape)
        raise ValueError(f"{keys['weight']} in {path} must take {inputs} channels, it is {shape}")
    return weights
