"""Trunks are filled from the files and packages that hold published weights."""

from collections import OrderedDict

import pytest
import timm
import torch
from open_clip.timm_model import TimmModel
from safetensors.torch import load_file, save_file

from maskclip.adaptation.config import TowerConfig
from maskclip.adaptation.starting import start_clip
from maskclip.clip_folder import save_clip
from maskclip.clip_models import build_clip, nano_config
from maskclip.hybrid import TRUNKS, HybridConfig, build_trunk, hybrid_trunk, register_hybrid
from maskclip.trunk_weights import load_trunk, load_trunk_weights

TINY = HybridConfig(side=32, width=64, depth=1)


def build(config: HybridConfig) -> TimmModel:
    return TimmModel(register_hybrid(config), 16, config.side, pool="token", proj="linear")


@pytest.fixture
def stored() -> dict[str, torch.Tensor]:
    """What a file of trunk weights holds: a whole MobileNetV2, half precision."""
    torch.manual_seed(0)
    state = timm.create_model("mobilenetv2_100", pad_type="same").state_dict()
    return {key: value.half() for key, value in state.items() if "num_batches" not in key}


@pytest.mark.parametrize("head", [False, True])
def test_the_trunk_takes_every_weight_it_has(stored, tmp_path, head):
    save_file(stored | {"deeplab.logits.bias": torch.zeros(3)}, tmp_path / "trunk.safetensors")
    visual = build(HybridConfig(32, 64, 1, head=head))
    load_trunk(visual, tmp_path / "trunk.safetensors")
    trunk = visual.trunk.patch_embed.backbone.state_dict()
    weights = [key for key in trunk if "num_batches" not in key]
    assert ("conv_head.weight" in weights) == head
    assert all(torch.equal(trunk[key], stored[key].float()) for key in weights)


def test_a_missing_weight_of_the_trunk_is_named(stored, tmp_path):
    del stored["blocks.5.1.conv_pw.weight"]
    save_file(stored, tmp_path / "trunk.safetensors")
    with pytest.raises(ValueError, match=r"lacks blocks\.5\.1\.conv_pw\.weight"):
        load_trunk(build(TINY), tmp_path / "trunk.safetensors")


def test_a_weight_of_another_shape_is_named(stored, tmp_path):
    stored["bn1.weight"] = torch.zeros(3)
    save_file(stored, tmp_path / "trunk.safetensors")
    with pytest.raises(ValueError, match=r"bn1\.weight in .* must be \(32,\), got \(3,\)"):
        load_trunk(build(TINY), tmp_path / "trunk.safetensors")


def test_damaged_and_missing_files_are_said_so(tmp_path):
    (tmp_path / "trunk.safetensors").write_bytes(b"\x10")
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        load_trunk(build(TINY), tmp_path / "trunk.safetensors")
    with pytest.raises(FileNotFoundError, match="no trunk weights at"):
        load_trunk(build(TINY), tmp_path / "none.safetensors")


@torch.no_grad()
def test_the_pretrained_trunk_gives_the_features_of_the_whole_network(shared):
    path = shared / "weights" / "mobilenetv2_100_imagenet1k.safetensors"
    visual = build(HybridConfig(64, 64, 1, head=True)).eval()
    load_trunk(visual, path)
    whole = timm.create_model("mobilenetv2_100", pad_type="same", num_classes=1001).eval()
    whole.load_state_dict(load_file(path), strict=False)
    crops = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    features = visual.trunk.patch_embed.backbone(crops)
    torch.testing.assert_close(features, whole.forward_features(crops))
    assert features.abs().max() > 0.1


@pytest.fixture
def lite(tmp_path):
    """An EfficientNet-Lite0 as timm has it, and the same in a .pth file under other names."""
    torch.manual_seed(0)
    state = timm.create_model(TRUNKS["lite0"]).state_dict()
    path = tmp_path / "efficientnet-lite0.pth"
    renamed = {f"_other{place}.{key}": state[key] for place, key in enumerate(state)}
    torch.save(OrderedDict(renamed), path)
    return state, path


@pytest.mark.parametrize("head", [False, True])
def test_an_efficientnet_lite_is_read_in_its_order(lite, head):
    state, path = lite
    trunk = build_trunk(32, head, "lite0")
    load_trunk_weights(trunk, path)
    own = trunk.state_dict()
    assert ("conv_head.weight" in own) == head
    assert all(torch.equal(own[key], state[key]) for key in own if "num_batches" not in key)


def test_a_pth_file_of_another_network_is_refused(lite, tmp_path):
    state, path = lite
    with pytest.raises(ValueError, match="must hold an EfficientNet-Lite: .* cannot be"):
        load_trunk_weights(build_trunk(32, head=True, kind="lite2"), path)
    torch.save({f"a.{key}": state[key] for key in reversed(state)}, path)
    with pytest.raises(ValueError, match="must hold an EfficientNet-Lite: .* cannot be conv_stem"):
        load_trunk_weights(build_trunk(32, head=True, kind="lite0"), path)
    short = tmp_path / "short.pth"
    torch.save({"conv_stem.weight": state["conv_stem.weight"]}, short)
    with pytest.raises(ValueError, match=r"lacks bn1\.weight"):
        load_trunk_weights(build_trunk(32, head=True, kind="lite0"), short)


class Evil:
    """What a pickle may run when it is loaded."""

    def __reduce__(self):
        return print, ("executed",)


def test_a_pth_file_executes_nothing(tmp_path, capsys):
    torch.save({"conv_stem.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"cannot be read as a \.pth file of weights"):
        load_trunk_weights(build_trunk(32, head=True, kind="lite0"), tmp_path / "evil.pth")
    assert "executed" not in capsys.readouterr().out


def test_a_tower_may_start_from_the_trunk_of_another(tmp_path):
    learned = build_clip(nano_config("maskclip_nano_64_w64_d2_s32"))
    save_clip(learned, tmp_path / "learned", {})
    config = TowerConfig(model="maskclip_nano_64_w128_d1_s32", trunk=str(tmp_path / "learned"))
    started = hybrid_trunk(start_clip(config, None).tower.visual).state_dict()
    for name, value in hybrid_trunk(learned.tower.visual).state_dict().items():
        assert torch.equal(started[name], value), name
    config = TowerConfig(model="maskclip_nano_64_w128_d1_s32_h", trunk=str(tmp_path / "learned"))
    with pytest.raises(ValueError, match=r"the trunk of .*learned does not fit"):
        start_clip(config, None)


def test_a_tower_without_a_trunk_is_told():
    with pytest.raises(ValueError, match="only hybrid towers have a convolutional trunk, got a Id"):
        hybrid_trunk(torch.nn.Identity())
