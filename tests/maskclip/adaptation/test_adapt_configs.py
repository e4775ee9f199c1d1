"""The schedules in configs/ are those of the paper, and every file is understood."""

from pathlib import Path

import pytest

from maskclip.adaptation import AdaptConfig
from maskclip.adaptation.parts import first_of_two, second_of_two
from proposal.configuration import load_config

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


def load(name, *overrides):
    return load_config(AdaptConfig, CONFIGS / name, overrides)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("clip_*.yaml")), ids=lambda path: path.stem)
def test_every_file_is_understood(path):
    assert load(path.name).data.sources


@pytest.mark.parametrize(("size", "batch"), [("vitb16", 512), ("vitl14", 128)])
def test_schedules_are_the_published_ones(size, batch):
    ft, mpt = load(f"clip_ft_{size}.yaml"), load(f"clip_mpt_{size}.yaml")
    for config, rate, decay in ((ft, 5e-6, 0.2), (mpt, 0.05, 0.0)):
        train = config.train
        assert (train.learning_rate, train.weight_decay) == (rate, decay)
        assert (train.betas, train.eps) == ((0.9, 0.98), 1e-6)
        assert (train.warmup_steps, train.epochs, train.batch_size) == (100, 5, batch)
        assert (config.data.ratio_range, config.data.flip) == ((0.75, 4 / 3), False)
        assert config.data.sources[0].area_range == (0.9, 1.0)
    assert (mpt.clip.prompt_depth, ft.clip.prompt_depth) == (3, None)


@pytest.mark.parametrize("size", ["vitb16", "vitl14"])
def test_the_run_of_two_parts_is_the_two_runs(size):
    both = load(f"clip_ft_mpt_{size}.yaml", "data.sources.0.folder=mine")
    first, second = first_of_two(both), second_of_two(both)
    assert both.data.sources[0].folder == "mine"
    assert (first.train.mode, first.clip.prompt_depth) == ("ft", 0)
    expected = load(f"clip_ft_{size}.yaml").train
    for name in ("learning_rate", "weight_decay", "batch_size", "epochs", "precision"):
        assert getattr(first.train, name) == getattr(expected, name)
    mpt = load(f"clip_mpt_{size}.yaml").train
    assert (second.train.mode, second.clip.prompt_depth) == ("mpt", 3)
    assert (second.train.learning_rate, second.train.epochs) == (mpt.learning_rate, mpt.epochs)
