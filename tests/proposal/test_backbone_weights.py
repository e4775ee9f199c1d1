"""Pretrained trunks in the forms that others publish."""

from __future__ import annotations

import pickle

import pytest
import torch

from proposal.backbone_weights import load_trunk, read_arrays
from proposal.backbones import BackboneConfig, build_backbone

RESNET = BackboneConfig(
    depth=50, stem_out_channels=8, res2_out_channels=16, width_per_group=4, freeze_at=0
)
SWIN = BackboneConfig(
    type="swin", embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), window_size=3
)


def weights_of(config: BackboneConfig) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    state = build_backbone(config).body.state_dict()
    return {k: torch.rand_like(v) if v.is_floating_point() else v for k, v in state.items()}


def test_detectron2_pickles_of_arrays_are_read(tmp_path):
    """As R-103.pkl is: a plain pickle with NumPy arrays under "model"."""
    weights = weights_of(RESNET)
    arrays = {name: value.numpy() for name, value in weights.items()}
    arrays |= {"stem.fc.weight": arrays["stem.conv1.weight"]}
    content = {"model": arrays, "__author__": "MSRA", "matching_heuristics": True}
    (tmp_path / "r.pkl").write_bytes(pickle.dumps(content, protocol=2))
    backbone = build_backbone(RESNET)
    assert load_trunk(backbone, tmp_path / "r.pkl") == ["stem.fc.weight"]
    assert all(torch.equal(backbone.body.state_dict()[k], v) for k, v in weights.items())


def test_pickled_code_is_not_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("executed",)

    (tmp_path / "r.pkl").write_bytes(pickle.dumps({"model": Evil()}))
    with pytest.raises(ValueError, match="it holds pickled code .*print"):
        read_arrays(tmp_path / "r.pkl")
    (tmp_path / "r.pkl").write_bytes(b"\x80\x02torn")
    with pytest.raises(ValueError, match="no readable pickle of arrays"):
        read_arrays(tmp_path / "r.pkl")
    (tmp_path / "r.pkl").write_bytes(pickle.dumps({"model": {}}))
    with pytest.raises(ValueError, match="holds no arrays"):
        read_arrays(tmp_path / "r.pkl")


def test_swin_classifiers_give_their_trunk(tmp_path):
    """As Microsoft publishes them: one norm and a head at the end, attention masks as buffers."""
    weights = {k: v for k, v in weights_of(SWIN).items() if not k.startswith("norm")}
    rest = {k: torch.zeros(2) for k in ("norm.weight", "head.bias", "layers.0.blocks.0.attn_mask")}
    torch.save({"model": weights | rest}, tmp_path / "swin.pth")
    backbone = build_backbone(SWIN)
    assert load_trunk(backbone, tmp_path / "swin.pth") == sorted(rest)
    loaded = backbone.body.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in weights.items())
    assert (loaded["norm3.weight"] == 1).all()


@pytest.mark.parametrize("wrapper", ["backbone.", "module.", "backbone.bottom_up."])
def test_wrapped_names_are_unwrapped(tmp_path, wrapper):
    weights = weights_of(SWIN)
    torch.save({wrapper + k: v for k, v in weights.items()}, tmp_path / "s.pth")
    backbone = build_backbone(SWIN)
    assert load_trunk(backbone, tmp_path / "s.pth") == []
    loaded = backbone.body.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in weights.items())


def test_torchvision_spelling_is_understood(tmp_path):
    weights = weights_of(RESNET)
    theirs = {torchvision_name(k): v for k, v in weights.items()}
    assert "layer2.0.downsample.1.running_var" in theirs and "bn1.weight" in theirs
    torch.save(theirs | {"fc.weight": torch.zeros(1)}, tmp_path / "r.pth")
    backbone = build_backbone(RESNET)
    assert load_trunk(backbone, tmp_path / "r.pth") == ["fc.weight"]
    assert all(torch.equal(backbone.body.state_dict()[k], v) for k, v in weights.items())


def torchvision_name(name: str) -> str:
    name = name.removeprefix("stem.")
    for level in range(2, 6):
        name = name.replace(f"res{level}.", f"layer{level - 1}.")
    for number in (1, 2, 3):
        name = name.replace(f"conv{number}.norm.", f"bn{number}.")
    return name.replace("shortcut.norm.", "downsample.1.").replace("shortcut.", "downsample.0.")
