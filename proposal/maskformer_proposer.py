"""A trained MaskFormer as a proposer: photo in, mask probabilities out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from proposal.cpu_threads import cpu_threads
from proposal.maskformer import MaskFormer, MaskFormerOutput, class_logits
from proposal.proposals import Proposals

PUBLISHED_THREADS = 2  # with which the reference masks come out bit by bit


class MaskFormerProposer(nn.Module):
    """Resizes photos as published, asks the network, and brings its masks back to their size.

    B: images, Q: queries, H x W: a photo, h x w: the same resized, which is the masks' size.
    """

    def __init__(self, network: MaskFormer) -> None:
        super().__init__()
        self.network = network

    def propose(self, image: np.ndarray) -> Proposals:
        """(H, W, 3) uint8 RGB -> Proposals with (Q, h, w) mask_probs."""
        return self.propose_batch([image])[0]

    @torch.no_grad()
    def propose_batch(
        self, images: Sequence[np.ndarray], stems: Sequence[str | None] = ()
    ) -> list[Proposals]:
        """B images (H, W, 3) uint8 RGB of any sizes -> B Proposals, in their order.

        Only images of the same padded size share a forward: the network looks at its padding as
        the published one does, so that more of it would change the answer. Stems tell it nothing.
        """
        del stems
        config, device = self.network.config, self.network.query_embed.weight.device
        published = config.published_rounding and device.type == "cpu"
        pixels = [self.resize(image) for image in images]  # (3, h, w) each
        groups = defaultdict(list)
        for index, one in enumerate(pixels):
            size_hw = padded_size(one.shape[-2:], config.size_divisibility)
            groups[size_hw, index if published else 0].append(index)
        proposals: dict[int, Proposals] = {}
        was_training = self.network.training
        self.network.eval()
        try:
            for (size_hw, _), indices in groups.items():
                output = self.ask([pixels[index] for index in indices], size_hw)
                for row, index in enumerate(indices):
                    proposals[index] = self.read(output, row, pixels[index].shape[-2:], size_hw)
        finally:
            self.network.train(was_training)
        return [proposals[index] for index in range(len(images))]

    def ask(self, pixels: Sequence[Tensor], size_hw: tuple[int, int]) -> MaskFormerOutput:
        """B resized photos (3, h, w) -> the network's output on them, padded to ``size_hw``."""
        device = self.network.query_embed.weight.device
        published = self.network.config.published_rounding and device.type == "cpu"
        batch = torch.stack([pad(one, size_hw) for one in pixels])
        with cpu_threads(PUBLISHED_THREADS if published else 0):
            return self.network(batch.to(device))

    def resize(self, image: np.ndarray) -> Tensor:
        """(H, W, 3) uint8 RGB -> (3, h, w) normalised float, resized by PIL's bilinear filter."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(
                f"an image must be uint8 RGB (H, W, 3), got {image.dtype} {image.shape}: "
                "load it with maskclip.images.load_image"
            )
        config = self.network.config
        height, width = resized_size(image.shape[:2], config.short_side, config.max_size)
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float()  # (3, h, w)
        mean = torch.tensor(config.pixel_mean)[:, None, None]
        return (pixels - mean) / torch.tensor(config.pixel_std)[:, None, None]

    def read(
        self,
        output: MaskFormerOutput,
        row: int,
        size_hw: tuple[int, int],
        padded_hw: tuple[int, int],
    ) -> Proposals:
        """Proposals of one image of a batch, without its padding."""
        mask_logits = F.interpolate(
            output.mask_logits[row][None], padded_hw, mode="bilinear", align_corners=False
        )[0]
        mask_probs = mask_logits[:, : size_hw[0], : size_hw[1]].sigmoid()  # (Q, h, w)
        embeddings = None if output.class_embeddings is None else output.class_embeddings[row]
        if output.object_logits is not None:
            scores = output.object_logits[row].softmax(-1)[:, 0]
            return Proposals(mask_probs, scores, embeddings)
        return Proposals(
            mask_probs, self.objectness(embeddings), embeddings, self.network.no_object.detach()
        )

    def objectness(self, embeddings: Tensor) -> Tensor:
        """(Q, D) -> (Q,): 1 - p(no object) over the names of the training, 1 if none are known."""
        texts = self.network.training_text_embeddings
        if len(texts) == 0:
            return torch.ones(len(embeddings), device=embeddings.device)
        logits = class_logits(embeddings, texts, self.network.no_object)  # (Q, C + 1)
        return 1 - logits.softmax(-1)[:, -1]


def resized_size(size_hw: tuple[int, int], short_side: int, max_size: int) -> tuple[int, int]:
    """detectron2's rule: the shortest edge becomes short_side, the longest at most max_size."""
    height, width = size_hw
    scale = short_side / min(height, width)
    if height < width:
        new_height, new_width = float(short_side), scale * width
    else:
        new_height, new_width = scale * height, float(short_side)
    longest = max(new_height, new_width)
    if longest > max_size:
        new_height, new_width = new_height * max_size / longest, new_width * max_size / longest
    # The rule alone leaves nothing of a photo that is one pixel high and thousands wide.
    return max(1, int(new_height + 0.5)), max(1, int(new_width + 0.5))


def padded_size(size_hw: Sequence[int], divisibility: int) -> tuple[int, int]:
    """The next multiples of the divisibility."""
    height, width = size_hw
    return -(-height // divisibility) * divisibility, -(-width // divisibility) * divisibility


def pad(pixels: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(3, h, w) normalised -> (3, *size_hw), zeros at the right and bottom."""
    height, width = pixels.shape[-2:]
    return F.pad(pixels, (0, size_hw[1] - width, 0, size_hw[0] - height))
