"""Each mode on real photos: the loss falls, and photos not trained on are named better."""

import json
from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest

from maskclip.adaptation import AdaptConfig, evaluate, train
from maskclip.adaptation.config import DataConfig, PairSource, TowerConfig, TrainConfig

pytestmark = pytest.mark.slow
TOP1 = "instances/top1"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def real(shared, runs) -> AdaptConfig:
    """COCO's masks against the whole scene around them, some 600 to learn from, some 200 not."""
    coco, listed = shared / "data" / "coco", str(shared / "data" / "splits" / "coco_val.txt")
    paths = {"instances": str(coco / "instances.json"), "images": str(coco / "images")}
    source = PairSource(**paths, leave_out=listed, max_per_noun=10, min_area=400, exclusive=True)
    unseen = replace(source, leave_out="", photos=listed, max_per_noun=4)
    tower = TowerConfig(
        "maskclip_nano_128_w128_d2_s16",
        str(shared / "weights" / "mobilenetv2_100_imagenet1k.safetensors"),
        templates="single",
        background="keep",
        box_margin=0.5,
    )
    settings = {"learning_rate": 1e-3, "weight_decay": 0.05, "batch_size": 32, "steps": 100}
    settings |= {"prompt_learning_rate": 0.01, "warmup_steps": 10, "clip_gradient": 1.0}
    return AdaptConfig(
        tower,
        DataConfig((source,), cache=str(runs / "features"), evaluate=(unseen,)),
        TrainConfig(**settings, workers=0, threads=1, log_period=10),
    )


def prompted(config, mode, **settings):
    """The same training in a mode with mask prompts."""
    clip = replace(config.clip, prompt_depth=2)
    return replace(config, clip=clip, train=replace(config.train, mode=mode, **settings))


def fell(run: Path, share: float) -> bool:
    """Whether the loss ended below a share of what it began with."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["total_loss"] for line in lines]
    return mean(losses[-2:]) < share * losses[0]


@pytest.fixture(scope="module")
def fine_tuned(real, runs) -> tuple[Path, dict]:
    return runs / "ft", train(real, runs / "ft")


def test_fine_tuning(real, runs, fine_tuned):
    run, metrics = fine_tuned
    train(replace(real, train=replace(real.train, steps=0)), runs / "untrained")
    before = evaluate(real, runs / "untrained")
    assert fell(run, 0.6) and metrics[TOP1] > before[TOP1] + 8


def test_prompts_alone(real, runs, fine_tuned):
    config = prompted(real, "mpt", learning_rate=0.01)
    untaught = replace(config, train=replace(config.train, steps=0))
    before = train(untaught, runs / "untaught", init=fine_tuned[0])  # prompts of no meaning yet
    after = train(config, runs / "mpt", init=fine_tuned[0])
    assert fell(runs / "mpt", 0.95) and after[TOP1] > before[TOP1] + 3


def test_one_after_the_other(real, runs):
    metrics = train(prompted(real, "ft_mpt", steps=60), runs / "both")
    first = json.loads((runs / "both" / "ft" / "report.json").read_text())["metrics"]
    assert fell(runs / "both" / "ft", 0.7) and fell(runs / "both", 0.95)
    assert min(metrics[TOP1], first[TOP1]) > 8


def test_all_at_once_with_the_trunk_on_fresh_crops(real, runs):
    config = prompted(real, "joint", steps=40)
    train(replace(config, data=replace(config.data, cache="")), runs / "joint")
    assert fell(runs / "joint", 0.9)
    assert evaluate(config, runs / "joint")[TOP1] > 8
