"""Where the masks of a published network lie on the photo."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import EomtImageProcessor, Mask2FormerImageProcessor

from proposal.hub_frames import Frame, check_photo, cut_frames, lay_over, mask_size, widen


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def frame(*span: float) -> Frame:
    return Frame(torch.zeros(3, 1, 1), span)


def test_without_padding_masks_are_interpolated():
    logits = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(logits[None], (11, 9), mode="bilinear", align_corners=False)[0]
    got = lay_over(logits, frame(0, 1, 0, 1), (11, 9))
    assert torch.allclose(got, expected.sigmoid(), atol=1e-5)


def test_padding_is_cut_off():
    logits = torch.tensor([[[0.0, 2.0, 9.0, 9.0]]])  # the photo fills the left half
    got = lay_over(logits, frame(0, 1, 0, 2), (1, 2))
    assert torch.allclose(got, torch.tensor([[[0.0, 2.0]]]).sigmoid())


def test_a_window_says_nothing_beside_itself():
    logits = torch.full((1, 2, 2), 3.0)
    got = lay_over(logits, frame(0.5, 1, 0, 1), (4, 2))
    three = torch.tensor(3.0).sigmoid().item()
    assert got[0].tolist() == [[0, 0], [0, 0], [three] * 2, [three] * 2]
    assert lay_over(logits[:0], frame(0.5, 1, 0, 1), (4, 2)).shape == (0, 4, 2)


def test_padded_inputs_tell_how_much_of_them_is_padding():
    processor = Mask2FormerImageProcessor(
        size={"shortest_edge": 32, "longest_edge": 64},
        size_divisor=0,
        pad_size={"height": 64, "width": 128},
    )
    (one,) = cut_frames(photo(20, 30), processor)
    assert one.pixels.shape == (3, 64, 128)
    assert one.span == (0, 64 / 32, 0, 128 / 48)


def test_squares_are_padded_whether_the_processor_says_so_or_not():
    for do_pad in (True, False):
        size = {"shortest_edge": 64, "longest_edge": 64}
        (one,) = cut_frames(photo(20, 30), EomtImageProcessor(size=size, do_pad=do_pad))
        assert one.pixels.shape == (3, 64, 64)
        assert one.span == (0, 64 / 43, 0, 1)  # 42.67 rounds up


@pytest.mark.parametrize(
    ("size_hw", "spans"),
    [
        ((100, 100), [(0, 1, 0, 1)]),
        ((100, 150), [(0, 1, 0, 64 / 96), (0, 1, 32 / 96, 1)]),
        ((250, 100), [(0, 0.4, 0, 1), (48 / 160, 112 / 160, 0, 1), (0.6, 1, 0, 1)]),
    ],
)
def test_windows_cover_the_photo(size_hw, spans):
    size = {"shortest_edge": 64, "longest_edge": None}
    frames = cut_frames(photo(*size_hw), EomtImageProcessor(size=size, do_split_image=True))
    assert np.allclose([each.span for each in frames], spans)
    assert all(each.pixels.shape == (3, 64, 64) for each in frames)


def test_masks_are_never_larger_than_the_photo():
    assert mask_size((300, 400), 512) == (300, 400)
    assert mask_size((3000, 4000), 512) == (384, 512)
    assert mask_size((1, 4000), 512) == (1, 512)


def test_thin_photos_are_widened():
    assert widen(photo(1, 3000)).shape == (150, 3000, 3)
    assert widen(photo(3000, 1)).shape == (3000, 150, 3)
    assert widen(photo(1, 1)).shape == (1, 1, 3)
    image = photo(10, 200)
    assert widen(image) is image


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_photo_is_refused(image):
    with pytest.raises(ValueError, match=r"must be uint8 RGB \(H, W, 3\), got"):
        check_photo(image)
