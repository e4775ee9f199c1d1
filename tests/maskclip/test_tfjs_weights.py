"""Convolutions read out of TensorFlow.js graph models."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from maskclip.tfjs_weights import read_convolutions
from tests.maskclip.graph_models import write_graph_model


def some_kernels(count: int = 12) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        (rng.normal(size=(3, 3, 2 + place, 3 + place)), rng.normal(size=3 + place))
        for place in range(count)
    ]


@pytest.mark.parametrize(("half", "atol"), [(True, 2e-3), (False, 1e-6)])
def test_convolutions_come_in_the_order_of_the_network(tmp_path, half, atol):
    kernels = some_kernels()  # more than ten: convolution_10 comes after convolution_9
    path = write_graph_model(tmp_path / "net.json", kernels, half=half)
    found = read_convolutions(path)
    assert len(found) == len(kernels)
    for one, (kernel, bias) in zip(found, kernels, strict=True):
        pixels = torch.randn(1, kernel.shape[2], 5, 4)
        expected = np.zeros((3, 2, kernel.shape[3]))  # by the definition, (h, w, out)
        channels_last = pixels[0].permute(1, 2, 0).numpy()
        for y in range(3):
            for x in range(2):
                window = channels_last[y : y + 3, x : x + 3]
                expected[y, x] = np.einsum("hwi,hwio->o", window, kernel) + bias
        got = F.conv2d(pixels, one.weight, one.bias)[0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(got, expected, atol=20 * atol)


def test_what_is_no_graph_model_is_told(tmp_path):
    path = write_graph_model(tmp_path / "net.json", some_kernels(2))
    weights = path.with_suffix(".bin")
    whole, told = weights.read_bytes(), path.read_text()
    with pytest.raises(FileNotFoundError, match=r"there is no TensorFlow.js graph model"):
        read_convolutions(tmp_path / "other.json")
    weights.write_bytes(whole[:-2])
    with pytest.raises(ValueError, match=r"net.bin is cut off in the weight bias_1"):
        read_convolutions(path)
    weights.write_bytes(whole + b"12")
    with pytest.raises(ValueError, match=r"net.bin has 2 bytes too many"):
        read_convolutions(path)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no file of weights .*net.bin"):
        read_convolutions(path)
    weights.write_bytes(whole)
    content = json.loads(told)
    content["weightsManifest"][0]["weights"][0]["quantization"]["dtype"] = "uint8"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"weight split_0 must be one of .*, got uint8"):
        read_convolutions(path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"modelTopology": {"node": 1}}', "\x00"])
def test_damaged_files_are_one_sentence(tmp_path, text):
    path = tmp_path / "net.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"is damaged, or no TensorFlow.js graph model"):
        read_convolutions(path)


def test_a_convolution_without_a_bias_is_told(tmp_path):
    path = write_graph_model(tmp_path / "net.json", some_kernels(2))
    content = json.loads(path.read_text())
    nodes = content["modelTopology"]["node"]
    content["modelTopology"]["node"] = [node for node in nodes if node["op"] != "Add"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"is damaged, or no TensorFlow.js graph model"):
        read_convolutions(path)
