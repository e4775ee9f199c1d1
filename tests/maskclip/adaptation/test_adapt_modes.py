"""Which weights each mode changes."""

from dataclasses import replace

import pytest
import torch

from maskclip.adaptation import train
from maskclip.adaptation.config import TowerConfig, TrainConfig
from maskclip.adaptation.parameters import TRUNK, build_optimizer, schedule_factor
from maskclip.adaptation.starting import start_clip
from maskclip.checkpoint import load_clip
from maskclip.clip_config import ClipConfig
from maskclip.clip_folder import save_clip
from maskclip.clip_models import build_clip

VISION = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
TEXT = {"width": 16, "heads": 1, "layers": 1, "context_length": 24}
MODEL = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}
PROMPTS = {"tower.prompts", "pixel_prompt.pattern", "text_context.tokens"}
SCALE = {"log_logit_scale"}


def changed(before, after):
    """Names of what is not the same to the last bit."""
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("loss", ["multi_positive", "vocabulary"])
@pytest.mark.parametrize("mode", ["ft", "mpt", "joint"])
def test_each_mode_changes_its_own_weights(mode, loss, colour_pairs, start, config_for, tmp_path):
    config = config_for(colour_pairs, steps=3, mode=mode, loss=loss, weight_decay=0.2, average=0.5)
    config = replace(config, clip=replace(config.clip, pixel_prompt=0.5, text_context=2))
    torch.manual_seed(config.train.seed)
    before = start_clip(config.clip, start).state_dict()
    train(config, tmp_path / "run", init=start)
    names = changed(before, load_clip(str(tmp_path / "run")).state_dict())
    tower = {name for name in before if name.startswith("tower.visual.")}
    expected = {"ft": tower | SCALE, "mpt": PROMPTS | SCALE, "joint": tower | PROMPTS | SCALE}
    assert names == expected[mode]


def test_mpt_leaves_batch_norms_and_all_buffers_as_they_are(colour_pairs, config_for, tmp_path):
    tower = TowerConfig("maskclip_nano_64_w64_d1_s32", prompt_depth=1, templates="single")
    config = replace(config_for(colour_pairs, steps=2, mode="mpt"), clip=tower)
    torch.manual_seed(config.train.seed)
    before = start_clip(tower, None).state_dict()
    assert any(name.endswith("running_mean") for name in before)
    train(config, tmp_path / "run")
    names = changed(before, load_clip(str(tmp_path / "run")).state_dict())
    assert names == {"tower.prompts"} | SCALE


@pytest.mark.parametrize("trunk", ["", "_h", "_h_lite0"])
def test_early_stages_of_a_trunk_stay_as_they_are(trunk, colour_pairs, config_for, tmp_path):
    config = config_for(colour_pairs, steps=2, mode="ft", freeze_stages=3)
    tower = TowerConfig(f"maskclip_nano_64_w64_d1_s32{trunk}", templates="single")
    config = replace(config, clip=tower)
    torch.manual_seed(config.train.seed)
    before = start_clip(tower, None).state_dict()
    train(config, tmp_path / "run")
    names = changed(before, load_clip(str(tmp_path / "run")).state_dict())
    inside = {name.removeprefix(TRUNK) for name in names if name.startswith(TRUNK)}
    assert not {name for name in inside if name.startswith(("conv_stem", "bn1"))}
    stages = {name.split(".")[1] for name in inside if name.startswith("blocks.")}
    assert stages == {"3", "4", "5", "6"}
    assert any(name.startswith("conv_head") for name in inside) == bool(trunk)


def test_ft_then_mpt_is_one_run_of_two_parts(colour_pairs, start, config_for, tmp_path):
    config = config_for(colour_pairs, steps=4, mode="ft_mpt", prompt_steps=3)
    config = replace(config, train=replace(config.train, prompt_learning_rate=0.05))
    train(config, tmp_path / "run", init=start)
    before = load_clip(str(start)).state_dict()
    first = load_clip(str(tmp_path / "run" / "ft"))
    assert first.config.prompt_depth == 0
    assert (
        changed(before, first.state_dict())
        == {name for name in before if name.startswith("tower.")} | SCALE
    )
    second = load_clip(str(tmp_path / "run"))
    after = second.state_dict()
    assert second.config.prompt_depth == 2
    prompts = after.pop("tower.prompts")
    assert changed(first.state_dict(), after) == SCALE and prompts.shape == (2, 16, 32)
    with pytest.raises(ValueError, match="go on with --resume"):
        train(config, tmp_path / "run", init=start)
    again = train(config, tmp_path / "run", init=start, resume=True)  # nothing is left to do
    assert set(again) == {"pairs/top1", "pairs/mean_per_class"}
    state = load_clip(str(tmp_path / "run")).state_dict()
    assert not changed(second.state_dict(), state)


def test_a_run_of_another_mode_is_no_run_of_two_parts(colour_pairs, start, config_for, tmp_path):
    train(config_for(colour_pairs, steps=1), tmp_path / "run", init=start)
    config = config_for(colour_pairs, steps=1, mode="ft_mpt")
    with pytest.raises(ValueError, match="not in two parts: choose another --output"):
        train(config, tmp_path / "run", init=start, resume=True)


def test_learned_tokens_are_kept_and_used(colour_pairs, start, config_for, tmp_path):
    config = config_for(colour_pairs, steps=5, mode="mpt", loss="multi_positive")
    only = TowerConfig(templates="single", text_context=3)
    metrics = train(replace(config, clip=only), tmp_path / "run", init=start)
    clip = load_clip(str(tmp_path / "run"))
    assert clip.config.text_context == 3 and clip.config.prompt_depth == 0
    again = load_clip(str(start))
    save_clip(clip, tmp_path / "copy", {})
    assert (clip.encode_names(["red"])[0] - again.encode_names(["red"])[0]).abs().max() > 1e-4
    copy = load_clip(str(tmp_path / "copy"))
    torch.testing.assert_close(copy.encode_names(["red"])[0], clip.encode_names(["red"])[0])
    assert set(metrics) == {"pairs/top1", "pairs/mean_per_class"}


def test_groups_and_schedule():
    clip = build_clip(ClipConfig(name="tiny", model=MODEL, prompt_depth=1))
    config = TrainConfig(mode="joint", learning_rate=0.1, prompt_learning_rate=0.2, steps=110)
    groups = build_optimizer(clip, config).param_groups
    assert {(group["lr"], group["weight_decay"]) for group in groups} == {
        (0.1, 0.2), (0.1, 0.0), (0.2, 0.0)
    }  # fmt: skip
    factor = schedule_factor(config)
    assert factor(0) == pytest.approx(1 / 101)
    assert factor(100) == 1 and factor(105) == pytest.approx(0.5) and factor(110) == 0


def test_gains_biases_embeddings_and_prompts_do_not_decay():
    settings = {"prompt_depth": 1, "pixel_prompt": 1.0, "text_context": 2}
    clip = build_clip(ClipConfig(name="tiny", model=MODEL, **settings))
    optimizer = build_optimizer(clip, TrainConfig(mode="joint"))
    names = {id(parameter): name for name, parameter in clip.named_parameters()}
    decays = {
        names[id(parameter)]: group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    free = {name for name, decay in decays.items() if not decay}
    assert free >= PROMPTS | SCALE
    assert {name for name in decays if name.endswith(".bias") or ".ln_" in name} <= free
    assert {"tower.visual.class_embedding", "tower.visual.positional_embedding"} <= free
    assert decays["tower.visual.conv1.weight"] == decays["tower.visual.proj"] == 0.2


def test_prompts_must_be_there_to_be_trained():
    clip = build_clip(ClipConfig(name="tiny", model=MODEL))
    with pytest.raises(ValueError, match="clip.prompt_depth, clip.pixel_prompt or"):
        build_optimizer(clip, TrainConfig(mode="mpt"))
