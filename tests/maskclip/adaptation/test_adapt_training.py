import json
import signal
from dataclasses import replace

import pytest
import torch

from maskclip.adaptation import AdaptConfig, evaluate, train
from maskclip.adaptation.config import DataConfig, PairSource, TowerConfig, TrainConfig
from maskclip.adaptation.parameters import build_optimizer, schedule_factor
from maskclip.adaptation.starting import save_clip, start_clip
from maskclip.checkpoint import load_clip
from maskclip.clip import ClipConfig
from maskclip.clip_models import build_clip

VISION = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
TEXT = {"width": 16, "heads": 1, "layers": 1, "context_length": 24}
MODEL = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}


@pytest.fixture(autouse=True)
def own_text_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKCLIP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def start(tmp_path):
    """A checkpoint folder with a tiny ViT-CLIP of random weights."""
    torch.manual_seed(0)
    save_clip(build_clip(ClipConfig(name="tiny", model=MODEL)), tmp_path / "start", {})
    return tmp_path / "start"


def config_for(pairs, **train_settings):
    settings = {"learning_rate": 3e-3, "weight_decay": 0.0, "warmup_steps": 2, "batch_size": 8}
    source = PairSource(str(pairs), exclusive=True)
    return AdaptConfig(
        TowerConfig(prompt_depth=2, templates="single", background="attenuate"),
        DataConfig(sources=(source,), evaluate=(str(pairs),)),
        TrainConfig(**(settings | {"steps": 30, "loss": "vocabulary"} | train_settings)),
    )


@pytest.mark.parametrize("loss", ["vocabulary", "multi_positive"])
def test_a_vit_learns_two_colours(colour_pairs, start, tmp_path, loss):
    config = config_for(colour_pairs, loss=loss)
    metrics = train(config, tmp_path / "run", init=start)
    assert metrics == {"pairs/top1": 100.0, "pairs/mean_per_class": 100.0}
    assert evaluate(config, tmp_path / "run") == metrics
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert "loss_" + loss in json.loads(lines[-1]) or "total_loss" in json.loads(lines[-1])
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["clip"]["templates"] == "single" and stored["clip"]["prompt_depth"] == 2


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_each_mode_changes_its_own_weights(colour_pairs, start, tmp_path):
    config = config_for(colour_pairs, steps=3)
    before = start_clip(config.clip, start).state_dict()
    for mode in ("ft", "mpt", "joint"):
        torch.manual_seed(0)
        one = replace(config, train=replace(config.train, mode=mode))
        train(one, tmp_path / mode, init=start)
        names = changed(before, load_clip(str(tmp_path / mode)).state_dict())
        prompts, scale = {"tower.prompts"}, {"log_logit_scale"}
        tower = {name for name in before if name.startswith("tower.visual.")}
        if mode == "mpt":
            assert names == prompts | scale
        else:
            assert names - {"tower.prompts"} >= scale | {"tower.visual.conv1.weight"}
        assert not {name for name in names if name.startswith("text.")}
        assert mode == "mpt" or names & tower


def test_a_resumed_training_ends_as_if_it_had_not_stopped(colour_pairs, start, tmp_path):
    config = config_for(colour_pairs, steps=6, average=0.9, checkpoint_minutes=0.0)
    train(config, tmp_path / "whole", init=start)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maskclip.adaptation.hooks.ClampScale.after_step", stop_at(3))
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "parts", init=start)
    train(config, tmp_path / "parts", init=start, resume=True)
    whole = load_clip(str(tmp_path / "whole")).state_dict()
    for name, value in load_clip(str(tmp_path / "parts")).state_dict().items():
        torch.testing.assert_close(value, whole[name], rtol=1e-5, atol=1e-6)


def stop_at(step):
    def after_step(self):
        self.teacher.clamp_scale()
        if self.trainer.iter == step:
            signal.raise_signal(signal.SIGINT)  # as Ctrl-C: the step is finished first

    return after_step


def test_the_mean_of_runs_is_the_mean_of_their_weights(colour_pairs, start, tmp_path):
    config = config_for(colour_pairs, steps=2)
    train(config, tmp_path / "one", init=start)
    one = load_clip(str(tmp_path / "one"))
    tower = replace(config.clip, prompt_depth=None, average_with=(str(tmp_path / "one"),))
    with pytest.raises(ValueError, match="same architecture"):
        start_clip(tower, start)  # no prompts there
    train(replace(config, train=replace(config.train, steps=0)), tmp_path / "zero", init=start)
    zero = load_clip(str(tmp_path / "zero"))
    mean = start_clip(tower, tmp_path / "zero").state_dict()
    for name, value in one.state_dict().items():
        torch.testing.assert_close(mean[name], (value + zero.state_dict()[name]) / 2)


def test_the_scale_stays_below_100(colour_pairs, start, tmp_path):
    train(config_for(colour_pairs, steps=3, learning_rate=5.0), tmp_path / "run", init=start)
    assert 1 - 1e-5 <= load_clip(str(tmp_path / "run")).logit_scale <= 100.01


def test_a_hybrid_learns_from_cached_features(colour_pairs, shared, tmp_path):
    trunk = shared / "weights" / "mobilenetv2_100_imagenet1k.safetensors"
    config = AdaptConfig(
        TowerConfig("maskclip_nano_64_w64_d1_s32", str(trunk), prompt_depth=1, templates="single"),
        DataConfig((PairSource(str(colour_pairs), views=2),), cache=str(tmp_path / "features")),
        TrainConfig(
            loss="vocabulary", learning_rate=2e-3, steps=25, batch_size=8, warmup_steps=3,
            mode="joint", dropout=0.1, mask_dropout=0.2,
        ),
    )  # fmt: skip
    config = replace(config, data=replace(config.data, evaluate=(str(colour_pairs),)))
    assert train(config, tmp_path / "run")["pairs/top1"] == 100.0
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "features").iterdir()}
    assert len(files) == 2  # features and cells, computed once
    train(replace(config, train=replace(config.train, steps=1)), tmp_path / "again")
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "features").iterdir()}
    fresh = start_clip(config.clip, None).state_dict()
    names = changed(fresh, load_clip(str(tmp_path / "run")).state_dict())
    assert not {name for name in names if ".backbone." in name}


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


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: TrainConfig(mode="fast"), "ft, mpt, joint"),
        (lambda: TrainConfig(loss="hinge"), "vocabulary, multi_positive, infonce"),
        (lambda: TrainConfig(steps=-1), "0 or more"),
        (lambda: start_clip(TowerConfig(), None), "--init"),
        (
            lambda: build_optimizer(
                build_clip(ClipConfig(name="tiny", model=MODEL)), TrainConfig(mode="mpt")
            ),
            "clip.prompt_depth",
        ),
    ],
)
def test_wrong_settings_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()
