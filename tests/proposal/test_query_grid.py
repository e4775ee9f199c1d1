import pytest
import torch

from proposal.query_grid import grid_points, spread_queries
from proposal.transformer_decoder import TransformerDecoder, grid_positions


@pytest.mark.parametrize("queries", [0, 1, 7, 100])
def test_a_grid_has_as_many_points_as_queries(queries):
    points = grid_points(queries)
    assert points.shape == (queries, 2)
    assert len(set(map(tuple, points.tolist()))) == queries
    assert ((points > 0) & (points < 1)).all()


def test_four_queries_stand_in_the_middle_of_the_quarters():
    expected = [[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]]
    assert grid_points(4).tolist() == expected


def attention_centres(init: str, layer: int) -> torch.Tensor:
    """Mean (y, x) that each of 25 queries looks at with its first head on a 16 x 16 memory."""
    torch.manual_seed(0)
    decoder = TransformerDecoder(3, 96, 4, feedforward=32, dropout=0.0)
    input_proj = torch.nn.Conv2d(8, 96, 1)
    places = torch.randn(25, 96)
    if init == "grid":
        spread_queries(places, grid_points(25), decoder, input_proj)
    with torch.no_grad():
        memory = input_proj(torch.randn(1, 8, 16, 16)).flatten(2).mT
        keys = memory + grid_positions(16, 16, 96, memory.device)
        targets = decoder.layers[layer].norm1(torch.randn(1, 25, 96))
        attention = decoder.layers[layer].multihead_attn
        _, weights = attention(targets + places, keys, memory, average_attn_weights=False)
    y, x = torch.meshgrid(torch.arange(1.0, 17) / 16, torch.arange(1.0, 17) / 16, indexing="ij")
    cells = torch.stack([y, x], dim=-1).flatten(0, 1)  # (256, 2)
    return weights[0, 0] @ cells  # (25, 2)


@pytest.mark.parametrize("layer", [0, 2])
def test_queries_of_a_grid_look_at_their_own_places(layer):
    distances = (attention_centres("grid", layer) - grid_points(25)).norm(dim=-1)
    assert distances.max() < 0.1
    assert (attention_centres("normal", layer) - grid_points(25)).norm(dim=-1).max() > 0.2
