"""What tells whether cached features are those of a network."""

import torch
from torch import nn

from maskclip.adaptation.features import fingerprint_weights


def test_a_zero_s_sign_is_no_other_network():
    one, other = nn.Linear(2, 1), nn.Linear(2, 1)
    one.load_state_dict({"weight": torch.tensor([[-0.0, 3.0]]), "bias": torch.tensor([1.0])})
    # As a running average leaves it: -0.0 + 0.1 * (-0.0 - -0.0)
    other.load_state_dict({"weight": torch.tensor([[0.0, 3.0]]), "bias": torch.tensor([1.0])})
    assert fingerprint_weights(one) == fingerprint_weights(other)


def test_another_value_or_name_is():
    one, other = nn.Linear(2, 1), nn.Linear(2, 1)
    other.load_state_dict(one.state_dict())
    assert fingerprint_weights(one) == fingerprint_weights(other)
    with torch.no_grad():
        other.weight[0, 1] += 1e-3
    assert fingerprint_weights(one) != fingerprint_weights(other)
    assert fingerprint_weights(nn.Sequential(one)) != fingerprint_weights(one)
