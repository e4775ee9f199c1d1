"""The detector's trunk: its sizes, its weights, what it sees."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from maskclip.detector import CHANNELS, Detector
from tests.maskclip.graph_models import write_graph_model


def convolutions(detector: Detector) -> list[nn.Conv2d]:
    return [module for module in detector.modules() if isinstance(module, nn.Conv2d)]


def write_weights(path, detector: Detector, *, more: int = 6):
    """As NanoDet-g's file has them: the heads' convolutions behind the others."""
    kernels = [
        (conv.weight.detach().permute(2, 3, 1, 0).numpy(), conv.bias.detach().numpy())
        for conv in convolutions(detector)
    ]
    heads = [(np.ones((1, 1, 128, 124)), np.zeros(124))] * more
    return write_graph_model(path, kernels + heads)


@pytest.mark.parametrize("size_hw", [(32, 32), (64, 96), (513, 385), (40, 30), (1, 1)])
@torch.no_grad()
def test_three_levels_on_one_grid(size_hw):
    detector = Detector()
    levels = detector(torch.zeros(1, 3, *size_hw))
    for level, stride in zip(levels, (8, 16, 32), strict=True):
        assert level.shape == (1, 128, *(-(-side // stride) for side in size_hw))
    u, v = (-(-side // 16) for side in size_hw)
    assert detector.see(torch.zeros(1, 3, *size_hw), (u, v)).shape == (CHANNELS, u, v)


@torch.no_grad()
def test_weights_come_in_the_order_of_the_file(tmp_path):
    torch.manual_seed(0)
    made, read = Detector(), Detector()
    read.load(write_weights(tmp_path / "nanodet.json", made))
    for one, other in zip(convolutions(made), convolutions(read), strict=True):
        torch.testing.assert_close(other.weight, one.weight, atol=1e-3, rtol=0)
        torch.testing.assert_close(other.bias, one.bias, atol=1e-3, rtol=0)
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    for one, other in zip(made(pixels), read(pixels), strict=True):
        torch.testing.assert_close(other, one, atol=1e-2, rtol=0)


def test_another_network_is_refused(tmp_path):
    detector = Detector()
    path = write_weights(tmp_path / "nanodet.json", detector, more=0)
    detector.load(path)
    wrong = [(np.ones((3, 3, 3, 16)), np.zeros(16))]
    path = write_graph_model(tmp_path / "other.json", wrong)
    with pytest.raises(ValueError, match=r"no NanoDet-g: its convolution 0 must be \(32, 3, 3, 3"):
        detector.load(path)
    right = [(np.ones((3, 3, 3, 32)), np.zeros(32))]
    path = write_graph_model(tmp_path / "short.json", right)
    with pytest.raises(ValueError, match=r"its convolution 1 must be \(32, 32, 3, 3\), got none"):
        detector.load(path)


@torch.no_grad()
def test_it_reads_what_the_published_one_reads():
    """BGR, normalised as NanoDet's configuration has it: seen through a stem that copies it."""
    detector = Detector()
    detector.stem.weight.zero_()
    detector.stem.bias.zero_()
    for channel in range(3):
        detector.stem.weight[channel, channel, 1, 1] = 1
    first = {}
    detector.blocks[0].register_forward_pre_hook(lambda _, inputs: first.update(seen=inputs[0]))
    rgb = torch.tensor([10.0, 100.0, 250.0])
    detector((rgb / 127.5 - 1)[None, :, None, None].expand(1, 3, 64, 64))
    expected = torch.tensor(
        [(250 - 103.53) / 57.375, (100 - 116.28) / 57.12, (10 - 123.675) / 58.395]
    )
    torch.testing.assert_close(
        first["seen"][0, :3, 3, 3], F.leaky_relu(expected, 0.1), atol=1e-4, rtol=0
    )
