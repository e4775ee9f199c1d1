"""A whole small ablation: stopped, gone on with, and under a changed recipe."""

import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from labeling.ablation.recipe import Captions, Recipe, Row, RunRecipe, Table
from labeling.ablation.self_labelled import caption_entries, keep_first, write_entries
from labeling.ablation.study import Study
from labeling.captions import read_captions
from labeling.label_config import LabelConfig
from labeling.self_label import Job, self_label
from maskclip.clip_folder import save_clip
from maskclip.clip_models import build_clip, nano_config
from maskclip.pairs import Pair, read_pairs, write_pairs_folder

CAPTIONED = runpy.run_path(str(Path(__file__).with_name("captioned.py")))
HELD_OUT = ("000.png", "001.png")
TABLES = (Table("Pairs", ("top1", "clip"), (Row("true", "ft"), Row("all", "ft_all"))),)


def box_mask(top: int, left: int, width: int) -> np.ndarray:
    mask = np.zeros((30, width), dtype=bool)
    mask[top : top + 12, left : left + 15] = True
    return mask


@pytest.fixture(scope="module")
def small_shared(tmp_path_factory) -> Path:
    """Six captioned photos, two of them held out and annotated, four with true pairs."""
    shared = tmp_path_factory.mktemp("shared")
    data = shared / "data"
    images, captions = CAPTIONED["write_captioned"](data / "coco", 6)
    images.rename(data / "coco" / "images")
    captions.rename(data / "coco" / "captions.jsonl")
    (data / "splits").mkdir()
    (data / "splits" / "coco_val.txt").write_text("\n".join(HELD_OUT))
    (data / "splits" / "coco_unseen.txt").write_text("cat")
    photos, annotations, pairs = [], [], []
    for index in range(6):
        name, width, label = f"{index:03d}.png", 40 + index % 3, index % 2
        mask = box_mask(index, 2 * index, width)
        if name not in HELD_OUT:
            noun = ("dog", "cat")[label]
            pairs.append(Pair.from_mask(mask, image=f"coco/images/{name}", noun=noun))
            continue
        photos.append({"id": index, "file_name": name, "height": 30, "width": width})
        rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        rle["counts"] = rle["counts"].decode()
        one = {"id": index + 1, "image_id": index, "category_id": label + 1, "iscrowd": 0}
        annotations.append(one | {"segmentation": rle, "area": int(mask.sum())})
    categories = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    content = {"images": photos, "annotations": annotations, "categories": categories}
    (data / "coco" / "instances.json").write_text(json.dumps(content))
    write_pairs_folder(shared / "pairs", pairs, images=data, config={})
    return shared


@pytest.fixture(scope="module")
def small_tower(tmp_path_factory) -> Path:
    """A hybrid tower of random weights beside a text tower that is quick to load."""
    torch.manual_seed(0)
    config = nano_config("maskclip_nano_32_w64_d1_s32")
    text = {"width": 16, "heads": 1, "layers": 1, "context_length": 24}
    clip = build_clip(replace(config, model=config.model | {"embed_dim": 16, "text_cfg": text}))
    folder = tmp_path_factory.mktemp("tower") / "start"
    save_clip(clip, folder, {})
    return folder


@pytest.fixture(scope="module")
def recipe(small_shared, small_tower, tiny_checkpoint, tmp_path_factory) -> Recipe:
    true = [{"folder": str(small_shared / "pairs"), "exclusive": True}]
    train = {"steps": 2, "batch_size": 4, "warmup_steps": 1, "workers": 0, "threads": 1}
    return Recipe(
        shared=str(small_shared),
        output=str(tmp_path_factory.mktemp("ablation")),
        proposer=str(tiny_checkpoint),
        proposals=3,
        label_with="start",
        captions=(Captions("coco/captions.jsonl", "coco/images"),),
        training={"clip": {"templates": "single"}, "train": train | {"loss": "vocabulary"}},
        pairs={"true": true, "all": [{"labelled": "all"}]},
        runs=(
            RunRecipe("start", pairs="true", settings={"clip": {"model": str(small_tower)}}),
            RunRecipe("ft", "start", "true", (0, 1)),
            RunRecipe("ft_all", "start", "all"),
        ),
        tables=TABLES,
    )


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory) -> Path:
    report = tmp_path_factory.mktemp("docs") / "ablation.md"
    Study(recipe).execute(report)
    return report


def trained(recipe: Recipe) -> list[str]:
    lines = (Path(recipe.output) / "seconds.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    return [step.removeprefix("train ") for step in steps if step.startswith("train")]


def test_a_whole_ablation_is_trained_labelled_measured_and_told(recipe, finished):
    assert trained(recipe) == ["start 0", "ft 0", "ft 1", "ft_all 0"]
    told = json.loads(finished.with_suffix(".json").read_text())
    assert told["missing"] == [] and len(told["runs"]) == 4
    assert told["self_labelled"]["all"]["pairs"] >= told["self_labelled"]["first"]["pairs"] > 0
    assert "All 4 runs are here" in finished.read_text()
    assert {"top1", "mean_per_class", "clip"} <= set(told["runs"]["ft seed 1"])


def test_what_is_there_is_not_done_again(recipe, finished):
    before = finished.with_suffix(".json").read_bytes()
    runs = trained(recipe)
    evaluation = next((Path(recipe.output) / "evaluations").glob("ft-*-s1.json"))
    numbers = evaluation.read_bytes()
    evaluation.unlink()
    Study(recipe).execute(finished)
    assert trained(recipe) == runs
    assert evaluation.read_bytes() == numbers
    told, was = (json.loads(text) for text in (finished.with_suffix(".json").read_bytes(), before))
    assert told["runs"] == was["runs"]


def test_a_changed_recipe_trains_what_depends_on_it_under_another_key(recipe, finished):
    changed = list(recipe.runs)
    changed[1] = replace(changed[1], settings={"train": {"learning_rate": 1e-3}})
    study, before = Study(replace(recipe, runs=tuple(changed))), Study(recipe)
    start, ft, ft_all = recipe.runs
    assert study.folder(start, 0) == before.folder(start, 0)
    assert study.numbers(ft_all, 0) == before.numbers(ft_all, 0) is not None
    assert study.folder(changed[1], 0) != before.folder(ft, 0)
    assert study.numbers(changed[1], 0) is None
    study.report(finished.with_name("changed.md"))
    told = finished.with_name("changed.md").read_text()
    assert "**Not complete**" in told and "ft (seed 0), ft (seed 1)" in told


@pytest.mark.usefixtures("finished")
def test_another_proposer_labels_and_measures_anew(recipe):
    study = Study(replace(recipe, proposer="superpixels"))
    start, _, ft_all = recipe.runs
    assert study.labelled != Study(recipe).labelled
    assert study.folder(start, 0) == Study(recipe).folder(start, 0)
    assert study.folder(ft_all, 0) != Study(recipe).folder(ft_all, 0)
    assert study.numbers(start, 0) is None


def test_held_out_photos_are_never_labelled(small_shared, recipe):
    entries = caption_entries(small_shared / "data", recipe.captions)
    assert [one.image for one in entries] == [f"coco/images/00{i}.png" for i in range(2, 6)]
    few = (replace(recipe.captions[0], photos=3),)
    assert len(caption_entries(small_shared / "data", few)) == 3
    assert len(caption_entries(small_shared / "data", few, limit=1)) == 1


def test_first_captions_pairs_are_those_that_they_alone_would_give(
    small_shared, recipe, tiny_checkpoint, tmp_path
):
    entries = caption_entries(small_shared / "data", recipe.captions)
    captions = tmp_path / "captions.jsonl"
    write_entries(captions, entries)
    assert read_captions(captions)[0].captions[0].id == "coco/images/002#0"
    config = LabelConfig(str(tiny_checkpoint))
    job = Job(small_shared / "data", captions, tmp_path / "all", config, workers=1, device="cpu")
    self_label(job)
    alone = replace(config, captions_per_image="1")
    self_label(replace(job, output=tmp_path / "one", config=alone))
    keep_first(tmp_path / "all", tmp_path / "first")
    first, one = read_pairs(tmp_path / "first"), read_pairs(tmp_path / "one")
    assert 0 < len(one) < len(read_pairs(tmp_path / "all"))
    rest = [name for name in one.column_names if name not in ("score", "probability")]
    assert first.select(rest).equals(one.select(rest))
    # Last bits depend on how many nouns are compared at once
    np.testing.assert_allclose(first["score"], one["score"], atol=1e-5)
