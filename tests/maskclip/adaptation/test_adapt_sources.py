"""Pairs from folders, COCO instances and label PNGs, side by side."""

import json

import numpy as np
import pytest
from PIL import Image

from maskclip.adaptation import AdaptConfig, train
from maskclip.adaptation.config import DataConfig, PairSource, TowerConfig, TrainConfig
from maskclip.adaptation.pair_table import read_table
from maskclip.adaptation.sources import fingerprint_sources, read_source
from maskclip.pairs import Pair, write_pairs_folder


@pytest.fixture
def labelled(tmp_path):
    """A photo of a sky above a car, as COCO instances and as a label PNG."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.fromarray(np.full((6, 8, 3), 90, np.uint8)).save(tmp_path / "images" / "7.jpg")
    labels = np.full((6, 8), 255, np.uint8)
    labels[:2], labels[3:5, 2:6] = 0, 1
    Image.fromarray(labels).save(tmp_path / "labels" / "7.png")
    (tmp_path / "names.txt").write_text("sky\nsports_car|auto\n")
    box = {"image_id": 7, "category_id": 3, "segmentation": [[2, 3, 6, 3, 6, 5, 2, 5]]}
    photo = {"id": 7, "file_name": "7.jpg", "height": 6, "width": 8}
    content = {
        "images": [photo],
        "categories": [{"id": 3, "name": "sports_car"}],
        "annotations": [box | {"iscrowd": 0}, box | {"iscrowd": 1}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    return tmp_path


def label_source(folder, **settings):
    paths = {
        "labels": folder / "labels",
        "images": folder / "images",
        "names": folder / "names.txt",
    }
    return PairSource(**{key: str(path) for key, path in paths.items()}, **settings)


def coco_source(folder, **settings):
    paths = {"instances": folder / "instances.json", "images": folder / "images"}
    return PairSource(**{key: str(path) for key, path in paths.items()}, **settings)


def test_instances_and_labels_give_the_same_region(labelled):
    table = read_table([coco_source(labelled), label_source(labelled)])
    assert table.nouns == ("sky", "sports car")
    assert [table.nouns[noun] for noun in table.pair_noun] == ["sports car", "sky", "sports car"]
    assert table.photo(0) == labelled / "images" / "7.jpg"
    assert table.box_xyxy(0) == table.box_xyxy(2) == (2, 3, 6, 5)
    np.testing.assert_array_equal(table.mask(0), table.mask(2))
    assert table.mask(1).sum() == 16 and table.weights().sum() == pytest.approx(1)


def test_lists_of_photos_choose(labelled):
    (labelled / "val.txt").write_text("0007.jpg\n")
    listed = str(labelled / "val.txt")
    assert len(read_table([label_source(labelled, photos=listed)])) == 2
    with pytest.raises(ValueError, match="data.sources must hold pairs, got labels"):
        read_table([label_source(labelled, leave_out=listed)])


def test_missing_photos_are_told_at_the_start(labelled):
    (labelled / "images" / "7.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="names 1 photos, of which 1 are missing, such as"):
        read_table([coco_source(labelled)])


def test_first_label_and_values_without_a_name(labelled):
    table = read_table([label_source(labelled, first_label=1)])
    assert table.nouns == ("sky",) and table.mask(0).sum() == 8
    (labelled / "names.txt").write_text("sky\n")
    with pytest.raises(ValueError, match=r"7.png must hold labels from 0 to 0 .* or 255, got 1"):
        read_table([label_source(labelled)])


def test_fingerprints_follow_the_annotations(labelled):
    sources = (coco_source(labelled), label_source(labelled))
    before = fingerprint_sources(sources)
    assert list(before) == ["data.sources.0 (instances)", "data.sources.1 (labels)"]
    (labelled / "names.txt").write_text("air\nsports_car\n")
    after = fingerprint_sources(sources)
    assert [before[key] == after[key] for key in before] == [True, False]


def test_a_training_on_all_kinds_at_once(labelled, colour_pairs, start, tmp_path):
    kinds = (PairSource(str(colour_pairs)), coco_source(labelled), label_source(labelled))
    config = AdaptConfig(
        TowerConfig(templates="single"),
        DataConfig(sources=kinds, evaluate=(*kinds[1:], kinds[2])),
        TrainConfig(epochs=2, batch_size=4, warmup_steps=1, workers=0),
    )
    metrics = train(config, tmp_path / "run", init=start)
    assert set(metrics) == {
        f"{kind}/{metric}"
        for kind in ("instances", "labels", "labels_2")
        for metric in ("top1", "mean_per_class")
    }
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["config"]["train"]["steps"] == 6  # 11 pairs, twice, by 4
    assert set(record["data"]) == {
        "data.sources.0 (pairs)", "data.sources.1 (instances)", "data.sources.2 (labels)"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "got none of them"),
        ({"folder": "a", "labels": "b"}, "got folder and labels"),
        ({"labels": "b", "images": "c"}, "labels: b also needs names"),
        ({"instances": "b"}, "instances: b also needs images"),
    ],
)
def test_a_source_is_of_one_kind_and_complete(settings, says):
    with pytest.raises(ValueError, match=says):
        PairSource(**settings)


def test_a_folder_that_is_still_being_made_is_told(labelled, caplog):
    pair = Pair.from_mask(np.ones((6, 8), bool), image="7.jpg", noun="sky")
    folder = labelled / "pairs"
    folder.mkdir()
    write_pairs_folder(folder, [pair], images=labelled / "images", config={})
    source = PairSource(folder=str(folder))
    read_source(source)
    assert not caplog.messages
    (folder / "summary.json").unlink()
    table, _ = read_source(source)
    assert table.num_rows == 1
    assert f"{folder} is not finished" in caplog.text
