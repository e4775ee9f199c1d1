import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from maskclip.adaptation import AdaptConfig, evaluate, train
from maskclip.adaptation.config import DataConfig, PairSource, TowerConfig, TrainConfig
from maskclip.adaptation.context import load_context
from maskclip.adaptation.pair_table import read_table
from maskclip.adaptation.starting import start_clip
from maskclip.checkpoint import load_clip
from maskclip.clip_folder import save_clip
from maskclip.clip_models import build_clip
from maskclip.photo_context import CHANNELS


@pytest.mark.parametrize("loss", ["vocabulary", "multi_positive"])
def test_a_vit_learns_two_colours(colour_pairs, start, config_for, tmp_path, loss):
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


def test_the_mean_of_runs_is_the_mean_of_their_weights(colour_pairs, start, config_for, tmp_path):
    config = config_for(colour_pairs, steps=2)
    train(config, tmp_path / "one", init=start)
    one = load_clip(str(tmp_path / "one"))
    tower = replace(config.clip, prompt_depth=None, average_with=(str(tmp_path / "one"),))
    with pytest.raises(ValueError, match="same architecture"):
        start_clip(tower, start)  # no prompts there
    train(replace(config, train=replace(config.train, steps=0)), tmp_path / "zero", init=start)
    with pytest.raises(
        FileNotFoundError, match="must name runs or checkpoint folders, got 'nothing'"
    ):
        start_clip(replace(tower, average_with=("nothing",)), tmp_path / "zero")
    zero = load_clip(str(tmp_path / "zero"))
    mean = start_clip(tower, tmp_path / "zero").state_dict()
    for name, value in one.state_dict().items():
        torch.testing.assert_close(mean[name], (value + zero.state_dict()[name]) / 2)


def test_a_loss_that_is_no_number_ends_the_training(colour_pairs, start, config_for, tmp_path):
    config = config_for(colour_pairs, learning_rate=1e30, checkpoint_steps=1, warmup_steps=0)
    with pytest.raises(ValueError, match="diverged at iteration .* the checkpoint after"):
        train(config, tmp_path / "run", init=start)
    assert load_clip(str(tmp_path / "run")).logit_scale <= 100.01


def test_what_is_measured_without_training_has_no_new_prompts(colour_pairs, start, config_for):
    config = config_for(colour_pairs)
    without = replace(config, clip=replace(config.clip, prompt_depth=0))
    assert evaluate(config, start) == evaluate(without, start)
    with pytest.raises(ValueError, match="needs pairs to measure on"):
        evaluate(replace(config, data=DataConfig()), start)


def test_the_best_and_the_last_saves_are_kept(colour_pairs, start, config_for, tmp_path):
    settings = {"evaluate_period": 4, "checkpoint_steps": 3, "keep_last": 2, "steps": 12}
    train(config_for(colour_pairs, **settings), tmp_path / "run", init=start)
    saves = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert saves == ["iteration_0000009", "iteration_0000012"]
    best = evaluate(config_for(colour_pairs), tmp_path / "run" / "best")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    measured = [json.loads(line).get("pairs/top1") for line in lines]
    assert best["pairs/top1"] == max(value for value in measured if value is not None)


def test_the_scale_stays_below_100(colour_pairs, start, config_for, tmp_path):
    train(config_for(colour_pairs, steps=3, learning_rate=5.0), tmp_path / "run", init=start)
    assert 1 - 1e-5 <= load_clip(str(tmp_path / "run")).logit_scale <= 100.01


def test_a_scale_that_is_set_stays_as_it_is(colour_pairs, start, config_for, tmp_path):
    config = config_for(colour_pairs, steps=3, learning_rate=1.0)
    config = replace(config, train=replace(config.train, logit_scale=12.5))
    train(config, tmp_path / "run", init=start)
    assert load_clip(str(tmp_path / "run")).logit_scale == pytest.approx(12.5)


def test_the_nouns_that_were_taught_are_listed(colour_pairs, start, config_for, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("Red\n")
    config = config_for(colour_pairs, steps=1)
    less = replace(config, data=replace(config.data, leave_out_nouns=str(words), evaluate=()))
    train(less, tmp_path / "less", init=start)
    assert load_clip(str(tmp_path / "less")).config.taught == ("blue",)
    untaught = replace(config, train=replace(config.train, steps=0))
    train(untaught, tmp_path / "none", init=start)
    assert load_clip(str(tmp_path / "none")).config.taught == ()
    train(config, tmp_path / "both", init=tmp_path / "less")
    assert load_clip(str(tmp_path / "both")).config.taught == ("blue", "red")


def test_a_hybrid_learns_from_cached_features(colour_pairs, shared, tmp_path):
    trunk = shared / "weights" / "mobilenetv2_100_imagenet1k.safetensors"
    config = AdaptConfig(
        TowerConfig("maskclip_nano_64_w64_d1_s32", str(trunk), prompt_depth=1, templates="single"),
        DataConfig((PairSource(str(colour_pairs), views=2),), cache=str(tmp_path / "features")),
        TrainConfig(
            loss="vocabulary", learning_rate=2e-3, steps=25, batch_size=8, warmup_steps=3,
            mode="joint", dropout=0.1, mask_dropout=0.2, workers=0,
        ),
    )  # fmt: skip
    config = replace(config, data=replace(config.data, evaluate=(PairSource(str(colour_pairs)),)))
    assert train(config, tmp_path / "run")["pairs/top1"] == 100.0
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "features").iterdir()}
    assert len(files) == 2  # features and cells, computed once
    train(replace(config, train=replace(config.train, steps=1)), tmp_path / "again")
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "features").iterdir()}
    fresh = start_clip(config.clip, None).state_dict()
    names = changed(fresh, load_clip(str(tmp_path / "run")).state_dict())
    assert not {name for name in names if ".backbone." in name}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: TrainConfig(mode="fast"), "ft, mpt, ft_mpt, joint"),
        (lambda: TrainConfig(loss="hinge"), "multi_positive, infonce, vocabulary"),
        (lambda: TrainConfig(steps=-1), "0 or more"),
        (lambda: start_clip(TowerConfig(), None), "--init"),
        (
            lambda: TrainConfig(logit_scale=101),
            r"train.logit_scale must be 0 .* \[1, 100\], got 101",
        ),
        (lambda: TrainConfig(accumulate=0), "train.accumulate must be 1 or more"),
        (lambda: TrainConfig(freeze_stages=-1), "train.freeze_stages must be 0 or more"),
        (
            lambda: AdaptConfig(TowerConfig(text_context=2), train=TrainConfig(centre_texts=True)),
            "centre_texts needs texts that stay as they are",
        ),
        (lambda: TrainConfig(precision="int8"), "float32, bfloat16, float16"),
        (lambda: AdaptConfig(train=TrainConfig(mode="ft_mpt")), "set clip.prompt_depth"),
        (
            lambda: AdaptConfig(TowerConfig(pixel_prompt=1.0), DataConfig(cache="x")),
            "set one of them only",
        ),
    ],
)
def test_wrong_settings_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_photo_context_is_learned_from(colour_pairs, start, config_for, tmp_path):
    """Crops in one grey for all: only the photo tells the colours apart."""
    torch.manual_seed(0)
    clip = load_clip(str(start))
    blind = build_clip(replace(clip.config, photo_context=True, prompt_depth=2))
    blind.tower.visual.conv1.weight.data.zero_()
    save_clip(blind, tmp_path / "blind", {})
    config = config_for(colour_pairs, mode="joint", context_dropout=0.1, steps=60)
    cache = tmp_path / "cache"
    data = replace(config.data, context_cache=str(cache))
    metrics = train(replace(config, data=data), tmp_path / "run", init=tmp_path / "blind")
    assert metrics["pairs/top1"] == 100
    (kept,) = cache.glob("*.context.npy")
    before = kept.stat().st_mtime_ns
    table = read_table(config.data.sources)
    bank = load_context(table, load_clip(str(tmp_path / "run")), str(cache))
    assert bank.context.shape == (8, 2, CHANNELS) and kept.stat().st_mtime_ns == before
    zeros = bank.draw(0, 1.0, np.random.default_rng(0))
    assert not zeros.any() and bank.draw(0, 0.0, np.random.default_rng(0)).any()
