import pytest
import torch
from safetensors.torch import load_file, save_file

from proposal.backbone_weights import load_trunk
from proposal.backbones import BackboneConfig, build_backbone

TINY = {
    "resnet": BackboneConfig(
        type="resnet-deeplab",
        depth=50,
        stem_out_channels=8,
        res2_out_channels=8,
        width_per_group=4,
    ),
    "swin": BackboneConfig(
        type="swin", embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4
    ),
    "mobilenet": BackboneConfig(type="timm:mobilenetv2_050", pad_type="same"),
    "resnet10t": BackboneConfig(type="timm:resnet10t"),
}


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("images", [1, 2])
def test_maps_have_strides_4_8_16_32(name, images):
    backbone = build_backbone(TINY[name]).eval()
    with torch.no_grad():
        maps = backbone(torch.zeros(images, 3, 64, 96))
    expected = [
        (images, width, 64 // stride, 96 // stride)
        for width, stride in zip(backbone.channels, (4, 8, 16, 32), strict=True)
    ]
    assert [tuple(one.shape) for one in maps] == expected


def test_a_timm_trunk_may_end_at_stride_16():
    config = BackboneConfig(type="timm:mobilenetv2_050", pad_type="same", output_stride=16)
    with torch.no_grad():
        maps = build_backbone(config).eval()(torch.zeros(1, 3, 64, 64))
    assert [one.shape[-1] for one in maps] == [16, 8, 4, 4]


def test_res5_of_the_published_resnet_has_a_multi_grid_and_frozen_first_stages():
    backbone = build_backbone(TINY["resnet"])
    assert [block.conv2.dilation[0] for block in backbone.body.res5] == [1, 2, 4]
    trained = {name.split(".")[1] for name, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {"res3", "res4", "res5"}


def test_the_published_swin_drops_paths_at_three_tenths():
    blocks = build_backbone(TINY["swin"]).body.layers[-1].blocks
    assert blocks[-1].drop_path.drop_prob == pytest.approx(0.3)


@pytest.mark.parametrize("name", ["mobilenet", "resnet10t"])
def test_training_leaves_the_statistics_of_batch_norms_alone(name):
    backbone = build_backbone(TINY[name]).train()
    before = {k: v.clone() for k, v in backbone.state_dict().items() if "running" in k}
    backbone(torch.randn(2, 3, 64, 64))
    assert before
    assert all(torch.equal(value, backbone.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (BackboneConfig(type="vgg"), "must be one of resnet-deeplab, swin, timm:<name>"),
        (BackboneConfig(type="timm:no_such_network"), "timm has no network 'no_such_network'"),
        (BackboneConfig(type="resnet-deeplab", depth=34), "depth must be one of"),
        (BackboneConfig(type="timm:vit_tiny_patch16_224"), "must have maps at strides"),
    ],
)
def test_impossible_trunks_are_refused_in_a_sentence(config, message):
    with pytest.raises(ValueError, match=message):
        build_backbone(config)


def test_a_trunk_file_is_loaded_without_its_head(tmp_path):
    source, copy = build_backbone(TINY["mobilenet"]), build_backbone(TINY["mobilenet"])
    weights = source.body.state_dict()
    weights = {key: value for key, value in weights.items() if "num_batches" not in key}
    save_file(weights | {"classifier.weight": torch.zeros(2)}, tmp_path / "trunk.safetensors")
    assert load_trunk(copy, tmp_path / "trunk.safetensors") == ["classifier.weight"]
    assert all(torch.equal(value, copy.body.state_dict()[key]) for key, value in weights.items())


@pytest.mark.parametrize("fault", ["missing", "unknown", "shape", "truncated", "absent"])
def test_a_file_that_is_not_this_trunk_is_refused(tmp_path, fault):
    backbone, path = build_backbone(TINY["mobilenet"]), tmp_path / "trunk.safetensors"
    weights = backbone.body.state_dict()
    if fault == "missing":
        del weights["conv_stem.weight"]
    elif fault == "unknown":
        weights["neck.weight"] = torch.zeros(1)
    elif fault == "shape":
        weights["conv_stem.weight"] = torch.zeros(1)
    if fault != "absent":
        save_file(weights, path)
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    error = FileNotFoundError if fault == "absent" else ValueError
    with pytest.raises(error, match="trunk.safetensors"):
        load_trunk(backbone, path)


@pytest.mark.parametrize("name", ["imagenet1k", "voc_deeplab", "ade20k_deeplab"])
def test_the_shared_trunks_fit(shared, name):
    config = BackboneConfig(type="timm:mobilenetv2_100", pad_type="same")
    backbone = build_backbone(config)
    path = shared / "weights" / f"mobilenetv2_100_{name}.safetensors"
    unused = load_trunk(backbone, path)
    assert unused
    assert not any(key.startswith("blocks") for key in unused)
    stored = load_file(path)["blocks.3.0.conv_pw.weight"].float()
    assert torch.equal(backbone.body.blocks[3][0].conv_pw.weight, stored)
