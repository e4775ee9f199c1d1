import pytest
import torch

from proposal.pixel_decoder import PixelDecoder


def maps_of(images: int, height: int, width: int) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    return tuple(
        torch.randn(images, channels, height // stride, width // stride)
        for channels, stride in zip((4, 8, 8, 16), (1, 2, 4, 8), strict=True)
    )


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("places", [False, True])
def test_every_pixel_of_the_finest_map_gets_an_embedding(images, places):
    decoder = PixelDecoder((4, 8, 8, 16), conv_dim=64, mask_dim=6)
    assert decoder(maps_of(images, 8, 16), places).shape == (images, 6, 8, 16)


def test_parameters_have_the_published_names():
    names = {
        name.split(".")[0] for name, _ in PixelDecoder((4, 8, 8, 16), 64, 6).named_parameters()
    }
    levels = {"layer_1", "layer_2", "layer_3", "layer_4", "adapter_1", "adapter_2", "adapter_3"}
    assert names == levels | {"mask_features"}


def test_the_coarsest_map_reaches_every_pixel_and_places_only_where_asked():
    decoder = PixelDecoder((4, 8, 8, 16), conv_dim=64, mask_dim=6)
    *fine, coarse = maps_of(1, 8, 8)
    blank = tuple(torch.zeros_like(one) for one in fine)
    flat = decoder((*blank, torch.zeros_like(coarse)))
    assert (decoder((*blank, coarse)) - flat).abs().amin(1).gt(1e-6).all()
    inner = flat[0, :, 2:-2, 2:-2].flatten(1)
    assert torch.allclose(inner, inner[:, :1].expand_as(inner), atol=1e-5)  # (mask_dim, h * w)
    placed = decoder((*blank, torch.zeros_like(coarse)), places=True)[0, :, 2:-2, 2:-2].flatten(1)
    assert torch.cdist(placed.mT, placed.mT).fill_diagonal_(1).min() > 1e-3
