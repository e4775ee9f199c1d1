from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from labeling.ablation.recipe import Recipe, RunRecipe, digest, settings_that_count
from labeling.ablation.study import plan

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"first": "pairs/first", "all": "pairs/all"}
SMALL = {
    "training": {"clip": {"templates": "single"}, "train": {"steps": 5}},
    "pairs": {"true": [{"folder": "pairs/true"}], "said": [{"labelled": "all", "weight": 2.0}]},
    "label_with": "start",
    "runs": [
        {"name": "start", "pairs": "true", "settings": {"clip": {"model": "ViT-B-32"}}},
        {"name": "deep", "init": "start", "pairs": "true"},
        {
            "name": "ft",
            "init": "start",
            "pairs": "said",
            "seeds": [0, 1],
            "settings": {"train": {"steps": 9}},
        },
    ],
}


def load(tmp_path, **changes) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(SMALL | changes, sort_keys=False))
    return Recipe.load(path)


def test_a_run_is_what_all_share_with_what_differs(tmp_path):
    recipe = load(tmp_path)
    config = recipe.resolve(recipe.run("ft"), 1, FOLDERS)
    assert (config.clip.templates, config.train.steps, config.train.seed) == ("single", 9, 1)
    assert [(one.folder, one.weight) for one in config.data.sources] == [("pairs/all", 2.0)]
    assert recipe.reads_labels(recipe.run("ft")) and not recipe.reads_labels(recipe.run("deep"))


def test_runs_with_several_seeds_come_first_after_what_they_start_from(tmp_path):
    steps = [(run.name, seed) for run, seed in plan(load(tmp_path))]
    assert steps == [("start", 0), ("ft", 0), ("ft", 1), ("deep", 0)]


def test_a_seed_starts_from_the_same_seed_if_there_is_one(tmp_path):
    recipe = load(tmp_path)
    recipe = replace(recipe, runs=(*recipe.runs, RunRecipe("mpt", init="ft", seeds=(1, 2))))
    assert [recipe.seed_of_init(recipe.run("mpt"), seed) for seed in (1, 2)] == [1, 0]


def test_a_key_knows_the_learning_rate_but_not_the_threads():
    def key(**train) -> str:
        return digest(settings_that_count({"train": train}))

    assert key(steps=5, threads=1) == key(steps=5, threads=2, workers=3)
    assert len({key(steps=5), key(steps=6), key(steps=5, learning_rate=1e-3)}) == 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"runs": [{"name": "a", "init": "b"}]}, "init of run a must be one of none yet, got 'b'"),
        ({"runs": [{"name": "a", "pairs": "b"}]}, "pairs of run a must be one of true, said"),
        ({"runs": [{"name": "a"}, {"name": "a"}]}, "used once, got a twice"),
        ({"runs": [{"name": "a", "seeds": []}]}, "seeds of run a must be one or more"),
        (
            {"label_with": "", "runs": [{"name": "a", "settings": {"train": {"stepps": 1}}}]},
            "the settings of run a has the unknown key train.stepps",
        ),
        (
            {"tables": [{"title": "T", "columns": ["mIoU"], "rows": []}]},
            "a column of 'T' must be one of top1, mean_per_class, clip, fused, stage1",
        ),
        (
            {"paper": [{"what": "X", "better": "ft", "worse": "fx"}]},
            "a run of paper: 'X' must be one of start, deep, ft, got 'fx'",
        ),
    ],
)
def test_names_that_are_not_there_are_refused(tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        load(tmp_path, **changes)


def test_the_recipe_in_configs_is_whole():
    recipe = Recipe.load(ROOT / "configs" / "ablation.yaml")
    rows = {row.run for table in recipe.tables for row in table.rows}
    assert rows == {run.name for run in recipe.runs}
    main = ("mpt", "ft", "ft_mpt", "ft_first", "ft_all", "ft_union")
    assert all(recipe.run(name).seeds == (0, 1, 2) for name in main)
    backgrounds = {recipe.resolve(run, 0, FOLDERS).clip.background for run in recipe.runs}
    assert backgrounds == {"mean", "keep", "attenuate", "blur"}
    depths = {recipe.resolve(run, 0, FOLDERS).clip.prompt_depth for run in recipe.runs}
    assert depths == {0, 1, 3, 6}
