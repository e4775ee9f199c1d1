"""A shared folder of two COCO photos and a few small ones, through the whole preparation."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from labeling.prepare import Preparation, PrepareConfig
from labeling.regions import RegionConfig
from labeling.teachers import TeacherDeepLab, teacher_words
from maskclip.pairs import images_root, read_pairs
from proposal.data.regions import read_regions

SURE_OF_ANYTHING = RegionConfig(min_fraction=0.0, min_confidence=0.0)
SQUARE = [[4, 4, 12, 4, 12, 12, 4, 12]]


def save_photo(path, size_wh=(24, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size_wh[::-1], 3), np.uint8)).save(
        path
    )


def save_instances(folder, photos):
    """Photo 1 has a cat, the others nothing; all are in the folder, only some in the file."""
    for photo in photos:
        save_photo(folder / "images" / f"{photo:012d}.jpg")
    content = {
        "images": [
            {"id": photo, "file_name": f"{photo:012d}.jpg", "height": 16, "width": 24}
            for photo in photos
            if photo != 3
        ],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"image_id": photo, "category_id": 1, "segmentation": SQUARE}
            for photo in photos
            if photo != 3
        ],
    }
    (folder / "instances.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def small_shared(tmp_path_factory):
    data = tmp_path_factory.mktemp("shared") / "data"
    save_instances(data / "coco", [1, 2, 3])
    save_instances(data / "coco128", [4])
    (data / "splits").mkdir()
    (data / "splits" / "coco_val.txt").write_text("000000000002.jpg\n")
    photo = {"image": "images/ccp/7.jpg", "source": "ccp", "label": "person", "union": True}
    masked = photo | {"mask": "masks/7.png", "mask_values": [1]}
    zoo = {"image": "images/zoo/8.jpg", "source": "zoo", "label": "lion", "coarse": "cat"}
    rows = [masked | {"split": "train"}, zoo | {"split": "train"}, zoo | {"split": "val"}]
    for row in rows:
        save_photo(data / "pretrain" / row["image"])
    (data / "pretrain" / "masks").mkdir()
    Image.new("L", (24, 16), 1).save(data / "pretrain" / "masks" / "7.png")
    (data / "pretrain" / "index.jsonl").write_text("\n".join(map(json.dumps, rows)))
    weights = data.parent / "weights"
    weights.mkdir()
    torch.manual_seed(0)
    for name in ("voc", "ade20k"):
        teacher = TeacherDeepLab(teacher_words(name), decoder=name == "ade20k")
        state = {key.removeprefix("trunk."): value for key, value in teacher.state_dict().items()}
        save_file(state, weights / f"mobilenetv2_100_{name}_deeplab.safetensors")
    return data.parent


def test_the_whole_preparation(small_shared, tmp_path, monkeypatch):
    monkeypatch.setattr("labeling.teachers.LONG_SIDE", 65)
    config = PrepareConfig(regions=SURE_OF_ANYTHING)
    preparation = Preparation(small_shared, tmp_path, config)
    preparation.prepare()
    summaries = preparation.summaries()
    pairs = {name: found["pairs"] for name, found in summaries.items() if "pairs" in found}
    assert pairs.pop("pairs/teachers") > 0
    assert pairs == {
        "pairs/coco": 1,
        "pairs/coco128": 1,
        "pairs/pretrain_regions": 1,
        "pairs/pretrain_whole": 1,
        "pairs/pretrain_val": 1,
    }
    for name in ("coco", "coco128", "coco_unlabelled", "ccp"):
        folder = tmp_path / "regions" / name
        (photo,) = read_regions(folder / "regions", folder / "images")
        assert photo.masks().any()

    named = {name: found for name, found in summaries.items() if name.startswith("named/")}
    assert {name: found["maps"] for name, found in named.items()} == {
        "named/coco": 1,
        "named/coco128": 1,
        "named/coco_unlabelled": 1,
        "named/ccp": 1,
        "named/human_seg": 0,
        "named/msrc_v2": 0,
    }
    with Image.open(tmp_path / "named" / "coco" / "labels" / "000000000001.png") as picture:
        labels = np.array(picture)
    names = (tmp_path / "named" / "coco" / "names.txt").read_text().splitlines()
    assert (labels[4:12, 4:12] == names.index("cat")).all()  # over all that teachers told
    assert (labels == names.index("cat")).sum() == 64
    assert (tmp_path / "named" / "ccp" / "names.txt").read_text() == "person\n"

    told = read_pairs(tmp_path / "pairs" / "teachers").to_pylist()
    root = images_root(tmp_path / "pairs" / "teachers")
    assert {row["image"] for row in told} <= {
        "coco/images/000000000001.jpg",
        "coco/images/000000000003.jpg",
        "coco128/images/000000000004.jpg",
    }
    assert all((root / row["image"]).is_file() for row in told)

    # Again: nothing is made. With coarser names: only what depends on them.
    made = [*tmp_path.rglob("*.parquet"), *tmp_path.rglob("names.txt")]
    before = {path: path.stat().st_mtime_ns for path in made}
    Preparation(small_shared, tmp_path, config).prepare()
    assert before == {path: path.stat().st_mtime_ns for path in made}
    Preparation(small_shared, tmp_path, replace(config, coarse=True)).prepare()
    assert read_pairs(tmp_path / "pairs" / "pretrain_whole")["noun"].to_pylist() == ["lion", "cat"]
    changed = [path for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert {path.parent.name[:8] for path in changed} == {"pretrain"}


def test_no_held_out_photo_is_anywhere(small_shared, tmp_path, monkeypatch):
    monkeypatch.setattr("labeling.teachers.LONG_SIDE", 65)
    Preparation(small_shared, tmp_path, PrepareConfig(regions=SURE_OF_ANYTHING)).prepare()
    found = {path.stem for path in tmp_path.rglob("*.jpg")}
    for folder in (tmp_path / "pairs").iterdir():
        found |= set(read_pairs(folder)["image_id"].to_pylist())
    assert {"000000000001", "000000000003", "000000000004"} <= found
    assert "000000000002" not in found


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="shared folder"):
        Preparation(tmp_path, tmp_path, PrepareConfig())
