import math

import pytest
import torch

from proposal.transformer_decoder import (
    DecoderLayer,
    Mlp,
    TransformerDecoder,
    TransformerEncoder,
    grid_positions,
    sine_positions,
)


def test_sine_codes_worked_by_hand():
    # 8 channels: 4 per axis; angles 2 pi c at pair 0 and 2 pi c / 10000^(2/4) = 2 pi c / 100 at 1.
    code = sine_positions(torch.tensor(0.25), torch.tensor(1.0), 8)
    slow_y, slow_x = math.pi / 200, 2 * math.pi / 100
    expected = [1, 0, math.sin(slow_y), math.cos(slow_y), 0, 1, math.sin(slow_x), math.cos(slow_x)]
    assert code.tolist() == pytest.approx(expected, abs=1e-6)


def test_a_grid_counts_its_cells_from_one_row_by_row():
    codes = grid_positions(2, 3, 8, torch.device("cpu"))
    assert codes.shape == (6, 8)
    fourth = sine_positions(torch.tensor(1.0), torch.tensor(1 / 3), 8)
    assert torch.allclose(codes[3], fourth, atol=1e-5)


def test_an_mlp_is_linear_at_the_end_and_rectified_between():
    mlp = Mlp(1, 1, 1)
    with torch.no_grad():
        for layer in mlp.layers:
            layer.weight.fill_(-2)
            layer.bias.fill_(1)
    # 3 -> 1 - 6 = -5 -> 0 -> 1 ; -1 -> 3 -> 1 - 6 = -5
    assert mlp(torch.tensor([[3.0], [-1.0]])).tolist() == [[1.0], [-5.0]]


def test_a_decoder_layer_equals_torch_where_nothing_is_placed():
    torch.manual_seed(0)
    ours = DecoderLayer(16, 4, 32, 0.0)
    theirs = torch.nn.TransformerDecoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    targets, memory = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    answer = ours(targets, torch.zeros(5, 16), memory, memory)
    assert torch.allclose(answer, theirs(targets, memory), atol=1e-5)


@pytest.mark.parametrize("layers", [1, 3])
def test_a_decoder_gives_every_layers_normed_output(layers):
    decoder = TransformerDecoder(layers, 16, 4, feedforward=32, dropout=0.1).eval()
    places, memory = torch.randn(5, 16), torch.randn(2, 7, 16)
    outputs = decoder(torch.zeros(5, 16), places, memory, memory + 1)
    assert [tuple(one.shape) for one in outputs] == [(2, 5, 16)] * layers
    assert outputs[0].mean(-1).abs().max() < 1e-5  # the shared LayerNorm, as it starts


def test_an_encoder_without_layers_changes_nothing():
    memory, positions = torch.randn(2, 7, 16), torch.randn(7, 16)
    sizes = {"feedforward": 32, "dropout": 0.0}
    assert torch.equal(TransformerEncoder(0, 16, 4, **sizes)(memory, positions), memory)
    one = TransformerEncoder(1, 16, 4, **sizes)(memory, positions)
    assert one.shape == memory.shape
    assert not torch.allclose(one, memory)
