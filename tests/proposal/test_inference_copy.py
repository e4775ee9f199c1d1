"""Networks without batch norms of their own."""

import copy

import pytest
import timm
import torch
from torch import nn

from proposal.backbones import BackboneConfig, build_backbone
from proposal.inference_copy import InferenceCopy, fold_batch_norms


def trained(network: nn.Module) -> nn.Module:
    """With statistics as trained ones have them, all different."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_var, module.weight.data):
                values.uniform_(0.5, 1.5, generator=generator)
            for values in (module.running_mean, module.bias.data):
                values.uniform_(-0.2, 0.2, generator=generator)
    return network.eval()


def small(name: str = "mobilenetv2_100") -> nn.Module:
    torch.manual_seed(0)
    return trained(timm.create_model(name, features_only=True, out_indices=(-1,)))


@pytest.mark.parametrize(
    "name", ["mobilenetv2_100", "tf_efficientnet_lite1", "tf_efficientnet_lite2", "resnet18"]
)
@torch.no_grad()
def test_no_batch_norm_is_left_and_the_maps_are_the_same(name):
    network, photo = small(name), torch.randn(2, 3, 64, 64)
    weights = copy.deepcopy(network.state_dict())
    folded = fold_batch_norms(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    (expected,), (found,) = network(photo), folded(photo)
    torch.testing.assert_close(found, expected, atol=1e-4 * expected.abs().max().item(), rtol=0)
    after = network.state_dict()
    assert list(after) == list(weights)
    assert all(torch.equal(after[key], value) for key, value in weights.items())


@torch.no_grad()
def test_a_norm_that_follows_no_convolution_stays():
    network = trained(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.ReLU()))
    network.append(nn.BatchNorm2d(4))
    network.append(nn.Conv2d(4, 4, 1)).append(nn.BatchNorm2d(4, track_running_stats=False)).eval()
    folded, photo = fold_batch_norms(network), torch.randn(2, 3, 5, 5)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded) == 3
    torch.testing.assert_close(folded(photo), network(photo))


def test_gradients_go_through_the_network_itself():
    network, inference = small(), InferenceCopy()
    assert inference.of(network) is network
    with torch.no_grad():
        assert inference.of(network) is not network


@torch.no_grad()
def test_nothing_is_copied_where_nothing_is_folded():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4))
    assert InferenceCopy().of(network) is network


@torch.no_grad()
def test_statistics_are_taken_by_the_network_itself():
    network = small().train()
    assert InferenceCopy().of(network) is network


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_copy_follows_the_weights(mode):
    network, inference, photo = small(), InferenceCopy(), torch.randn(1, 3, 64, 64)
    with mode():
        first = inference.of(network)
        assert inference.of(network) is first
    with torch.no_grad():
        network.conv_stem.weight.mul_(2)
    with mode():
        second = inference.of(network)
        assert second is not first
        torch.testing.assert_close(second(photo)[0], network(photo)[0], atol=1e-3, rtol=1e-3)
    network.load_state_dict(small().state_dict())
    with mode():
        torch.testing.assert_close(inference.of(network)(photo)[0], first(photo)[0])
    network.double()
    with mode():
        assert inference.of(network)(photo.double())[0].dtype == torch.float64


@torch.no_grad()
def test_copies_of_a_model_do_not_share_it():
    trunk = build_backbone(BackboneConfig(type="timm:mobilenetv2_100"))
    trained(trunk.body)
    photo = torch.randn(1, 3, 64, 64)
    before = trunk(photo)
    other = copy.deepcopy(trunk)
    other.body.conv_stem.weight.zero_()
    assert not torch.allclose(other(photo)[-1], before[-1], atol=1e-3)
    assert all(torch.equal(one, two) for one, two in zip(trunk(photo), before, strict=True))
    assert list(trunk.state_dict()) == [f"body.{name}" for name in trunk.body.state_dict()]
