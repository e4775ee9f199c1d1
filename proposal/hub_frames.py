"""How photos become inputs of a published network, and where its masks lie on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

MAX_ASPECT = 20  # thinner photos are widened: processors leave nothing of their short side


@dataclass(frozen=True)
class Frame:
    """One input, and the part of the photo that it shows, padding included."""

    pixels: Tensor  # (3, h, w), as the network wants it
    span: tuple[float, float, float, float]  # top, bottom, left, right; 1 = the photo's size


def check_photo(image: np.ndarray) -> None:
    """Raise ValueError unless it is (H, W, 3) uint8."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(
            f"an image must be uint8 RGB (H, W, 3), got {image.dtype} {image.shape}: "
            "load it with maskclip.images.load_image"
        )


def widen(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> the same, its short side stretched where it is thinner than ``MAX_ASPECT``."""
    height, width = image.shape[:2]
    floor = -(-max(height, width) // MAX_ASPECT)
    if min(height, width) >= floor:
        return image
    size = (max(width, floor), max(height, floor))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def mask_size(size_hw: tuple[int, int], longest: int) -> tuple[int, int]:
    """The size of a photo's masks: the photo's, shrunk to ``longest`` where that is less."""
    scale = min(1.0, longest / max(size_hw))
    return max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale))


def cut_frames(image: np.ndarray, processor: Any) -> list[Frame]:
    """(H, W, 3) uint8 RGB -> what a universal segmentation network sees of it, as published.

    One frame, padded at the right and bottom where the processor pads; several overlapping ones
    where the processor splits photos into windows (EoMT's semantic models).
    """
    image, changes = widen(image), {}
    windows = getattr(processor, "do_split_image", None)
    if windows is not None:
        changes["do_pad"] = not windows  # these see squares only
    if hasattr(processor, "num_text"):
        changes["task_inputs"] = ["panoptic"]  # of no consequence for the pixels
    inputs = processor(
        images=[image], return_tensors="pt", input_data_format="channels_last", **changes
    )
    pixels = inputs["pixel_values"]
    if windows is None:
        return [_whole_frame(pixels[0], inputs.get("pixel_mask"))]
    return list(_square_frames(pixels, inputs["patch_offsets"], image.shape[:2], processor.size))


def _whole_frame(pixels: Tensor, pixel_mask: Tensor | None) -> Frame:
    """(3, h, w), (1, h, w) with 0 in the padding."""
    height, width = pixels.shape[1:]
    if pixel_mask is None:
        return Frame(pixels, (0, 1, 0, 1))
    rows, columns = (int(pixel_mask[0].amax(dim=axis).sum()) for axis in (1, 0))
    return Frame(pixels, (0, height / rows, 0, width / columns))


def _square_frames(
    pixels: Tensor | list[Tensor], offsets: list[Tensor], size_hw: tuple[int, int], size: Any
) -> Iterator[Frame]:
    """EoMT's inputs: one padded square, or windows along the longer side."""
    from transformers.image_transforms import get_size_with_aspect_ratio

    height, width = get_size_with_aspect_ratio(size_hw, size.shortest_edge, size.longest_edge)
    if not len(offsets):
        yield Frame(pixels[0], (0, pixels[0].shape[1] / height, 0, pixels[0].shape[2] / width))
        return
    for square, offset in zip(pixels, offsets, strict=True):
        _, start, end = (int(value) for value in offset)
        if height > width:
            yield Frame(square, (start / height, end / height, 0, 1))
        else:
            yield Frame(square, (0, 1, start / width, end / width))


def lay_over(mask_logits: Tensor, frame: Frame, size_hw: tuple[int, int]) -> Tensor:
    """(Q, h, w) of a frame -> (Q, *size_hw) mask_probs on the photo, 0 outside the frame.

    Bilinear, corners not aligned; without padding it is what ``interpolate`` computes.
    """
    top, bottom, left, right = frame.span
    device = mask_logits.device
    y = _places(size_hw[0], top, bottom, device)  # (H,) in [-1, 1] within the frame
    x = _places(size_hw[1], left, right, device)  # (W,)
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)  # (H, W, 2)
    probs = F.grid_sample(
        mask_logits[None].float(), grid[None], padding_mode="border", align_corners=False
    )[0].sigmoid()  # (Q, H, W)
    inside = (y.abs() <= 1)[:, None] & (x.abs() <= 1)
    return probs * inside


def _places(length: int, start: float, end: float, device: torch.device) -> Tensor:
    """Centres of ``length`` pixels along the photo -> where in a frame, -1 its start, 1 its end."""
    centres = (torch.arange(length, device=device, dtype=torch.float32) + 0.5) / length
    return (centres - start) * (2 / (end - start)) - 1
