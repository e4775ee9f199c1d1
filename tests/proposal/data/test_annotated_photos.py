"""Label maps, panoptic segments, LVIS: what each kind of data set says about a photo."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from proposal.data.annotation import annotate
from proposal.data.augment import AugmentConfig
from proposal.data.coco import find_photo, read_named_coco
from proposal.data.label_maps import read_label_maps
from proposal.data.panoptic import read_panoptic
from proposal.data.photo import IGNORED
from proposal.data.source_config import DataConfig, SourceConfig
from proposal.data.sources import fingerprint_data, open_sources, open_validation, training_names
from proposal.data.stream import CropStream, stack
from proposal.data.vocabulary import labels_of, read_names
from proposal.matcher import UNNAMED


def png(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture
def maps(tmp_path) -> DataConfig:
    """A photo of 40 x 60 whose left third is b, right third a; the middle is unlabelled."""
    png(tmp_path / "images" / "1.png", np.zeros((40, 60, 3), dtype=np.uint8))
    values = np.full((40, 60), 255, dtype=np.uint8)
    values[:, :20], values[:, 40:] = 1, 0
    png(tmp_path / "labels" / "1.png", values)
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    source = SourceConfig(images="{here}/images", labels="{here}/labels", names="{here}/names.txt")
    still = AugmentConfig(zoom=(1, 1), flip=False, colour=False)
    return DataConfig(
        folders={"here": str(tmp_path)}, sources=(source,), sides=(64,), augment=still
    )


def test_each_name_that_is_present_is_a_mask(maps):
    (source,) = open_sources(maps, named=True)
    found = source.photos[0].annotation()
    assert found.categories.tolist() == [0, 1] and found.areas.tolist() == [800, 800]
    assert found.masks[0][:, 40:].all() and found.ignored.sum() == 800
    photo = source.load(0, 100)
    assert photo.labels.tolist() == [0, 1, IGNORED]
    assert training_names(maps, [source]) == ("a", "b", "c")


def test_unlabelled_pixels_may_count_as_background(maps):
    published = replace(maps, sources=(replace(maps.sources[0], unlabelled="background"),))
    (source,) = open_sources(published)
    assert source.load(0, 100).labels.tolist() == [0, 0]  # class-agnostic, nothing ignored


def test_batches_say_what_is_ignored(maps):
    stream = CropStream(open_sources(maps, named=True), maps, seed=0, batches=2, batch_size=2)
    batch = stack([stream[0], stream[1]])
    for target in batch.targets:
        assert len(target.masks) == len(target.labels) <= 2
        assert not (target.masks.bool() & target.ignored[None].bool()).any()
    assert any(target.ignored.any() for target in batch.targets)
    assert (batch.targets[0].labels >= 0).all()


@pytest.mark.parametrize(
    ("settings", "present", "ignored"),
    [({"first_label": 1}, [0], 1600), ({"ignore_label": 0}, None, 0)],
)
def test_values_are_read_as_configured(maps, settings, present, ignored):
    """first_label 1 (ADE): 0 is unlabelled, too; 255 is no name's where it is not ignored."""
    (source,) = open_sources(replace(maps, sources=(replace(maps.sources[0], **settings),)))
    if present is None:
        with pytest.raises(ValueError, match="labels from 0 to 2 for the 3 names, or 0, got 255"):
            source.photos[0].annotation()
    else:
        found = source.photos[0].annotation()
        assert (found.categories.tolist(), found.ignored.sum()) == (present, ignored)


def test_above_255_names_maps_have_16_bits(tmp_path):
    png(tmp_path / "images" / "1.png", np.zeros((2, 2, 3), dtype=np.uint8))
    png(tmp_path / "labels" / "1.png", np.array([[300, 65535], [255, 300]], dtype=np.uint16))
    names = tuple(str(number) for number in range(400))
    (photo,) = read_label_maps(tmp_path / "labels", tmp_path / "images", names)
    found = photo.annotation()
    assert found.categories.tolist() == [255, 300] and found.ignored.tolist()[0] == [False, True]


def panoptic(folder: Path) -> Path:
    """Two persons, one of them a crowd, some grass, some void."""
    ids = np.zeros((4, 6), dtype=np.int64)
    ids[:2, :3], ids[:2, 3:], ids[2] = 70000, 300, 5
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    png(folder / "images" / "x.jpg", np.zeros((4, 6, 3), dtype=np.uint8))
    png(folder / "pan" / "x.png", colours)
    segments = [
        {"id": 70000, "category_id": 7, "iscrowd": 0},
        {"id": 300, "category_id": 7, "iscrowd": 1},
        {"id": 5, "category_id": 3, "iscrowd": 0},
    ]
    content = {
        "images": [{"id": 1, "file_name": "x.jpg"}],
        "annotations": [{"image_id": 1, "file_name": "x.png", "segments_info": segments}],
        "categories": [{"id": 7, "name": "person"}, {"id": 3, "name": "wet_grass"}],
    }
    (folder / "pan.json").write_text(json.dumps(content))
    return folder / "pan.json"


def test_segments_are_masks_and_crowds_are_not(tmp_path):
    photos, names = read_panoptic(panoptic(tmp_path), tmp_path / "pan", tmp_path / "images")
    found = photos[0].annotation()
    assert names == ("wet_grass", "person")
    assert found.categories.tolist() == [1, 0]
    assert found.masks.sum(axis=(1, 2)).tolist() == [6, 6]
    assert found.ignored.sum() == 6 + 6  # the crowd and what belongs to no segment
    source = SourceConfig(images="{here}/images", panoptic="{here}/pan.json")
    config = DataConfig(folders={"here": str(tmp_path)}, sources=(source,))
    (opened,) = open_sources(config, named=True)  # its PNGs are found by the JSON's name
    assert opened.names == ("wet grass", "person")
    assert opened.load(0, 9).labels.tolist() == [1, 0, IGNORED]


def test_crowds_are_ignored_and_no_background(tmp_path):
    """They once counted as background, which taught the network not to see them."""
    png(tmp_path / "images" / "a.png", np.zeros((4, 6, 3), dtype=np.uint8))
    box = [[0, 0, 3, 0, 3, 4, 0, 4]]
    crowd = {"counts": [8, 12, 4], "size": [4, 6]}  # columns 2 to 4
    annotations = [
        {"image_id": 1, "category_id": 2, "segmentation": box, "area": 12, "iscrowd": 0},
        {"image_id": 1, "category_id": 2, "segmentation": crowd, "area": 12, "iscrowd": 1},
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 4, "width": 6}],
        "annotations": annotations,
        "categories": [{"id": 2, "name": "cat"}],
    }
    (tmp_path / "i.json").write_text(json.dumps(content))
    (photo,), names = read_named_coco(tmp_path / "i.json", tmp_path / "images")
    found = photo.annotation()
    assert names == ("cat",) and len(found.masks) == 1
    assert found.ignored.any(axis=0).tolist() == [False, False, False, True, True, False]


def test_masks_of_one_name_are_joined_on_request():
    masks = np.zeros((3, 1, 4), dtype=bool)
    masks[0, 0, 0] = masks[1, 0, 1] = masks[2, 0, 2] = True
    joined = annotate(masks, np.array([5, 2, 5])).per_category()
    assert joined.categories.tolist() == [2, 5]
    assert joined.masks[:, 0].tolist() == [[False, True, False, False], [True, False, True, False]]
    assert len(annotate(masks[:0]).per_category().masks) == 0


def test_lvis_photos_are_found_by_their_url(tmp_path):
    entry = {"file_name": "COCO_val2014_7.jpg", "coco_url": "http://x/train2017/7.jpg"}
    assert find_photo(entry, tmp_path) == tmp_path / "COCO_val2014_7.jpg"
    png(tmp_path / "train2017" / "7.jpg", np.zeros((2, 2, 3), dtype=np.uint8))
    assert find_photo(entry, tmp_path) == tmp_path / "train2017" / "7.jpg"
    del entry["file_name"]  # as LVIS 1.0 has it
    assert find_photo(entry, tmp_path) == tmp_path / "train2017" / "7.jpg"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": None}, "need names: a text file"),
        ({"instances": "x.json"}, "must have either"),
        ({"labels": None}, "got none"),
        ({"unlabelled": "sky"}, "must be ignore or background, got 'sky'"),
    ],
)
def test_sources_that_make_no_sense_are_refused(maps, change, message):
    with pytest.raises(ValueError, match=message):
        replace(maps.sources[0], **change)


def test_names_must_fit_the_vocabulary(maps, tmp_path):
    (tmp_path / "all.txt").write_text("c\nb\na\n")
    (source,) = open_sources(replace(maps, names="{here}/all.txt"), named=True)
    assert source.labels.tolist() == [2, 1, 0]
    (tmp_path / "all.txt").write_text("c\n")
    with pytest.raises(ValueError, match="2 are missing, such as a, b"):
        open_sources(replace(maps, names="{here}/all.txt"), named=True)
    (tmp_path / "all.txt").write_text("c\nc\n")
    with pytest.raises(ValueError, match="each once, got 'c' twice"):
        read_names(tmp_path / "all.txt")
    assert labels_of((), ("a",), "nowhere").shape == (0,)


def test_regions_have_no_names_to_learn(maps):
    regions = SourceConfig(images="{here}/images", regions="{here}/labels")
    mixed = replace(maps, sources=(*maps.sources, regions))
    assert len(open_sources(mixed)) == 2
    with pytest.raises(ValueError, match="{here}/labels has masks without"):
        open_sources(mixed, named=True)
    found = fingerprint_data(mixed, open_sources(mixed))
    assert [each["files"] for each in found.values()] == [3, 2]
    assert len(open_validation(replace(maps, validation=regions))) == 1


def test_some_masks_may_have_no_names(maps, tmp_path):
    """A region map of the same photo, alone and beside its labels: masks without a name."""
    values = np.zeros((40, 60), dtype=np.uint8)
    values[:, 20:40], values[:, 40:] = 1, 2  # the second is painted in the label map, too
    png(tmp_path / "extra" / "1.png", values)
    regions = SourceConfig(images="{here}/images", regions="{here}/extra")
    wide = replace(
        maps.sources[0], extra_regions="{here}/extra", unlabelled="background", paste=True
    )
    config = replace(maps, sources=(wide, regions), sides=(40,))
    named, nameless = open_sources(config, named=True, partly=True)
    assert training_names(config, [named, nameless], partly=True) == ("a", "b", "c")
    assert named.load(0, 100).labels.tolist() == [0, 1, UNNAMED]
    assert nameless.load(0, 100).labels.tolist() == [UNNAMED, UNNAMED]
    assert open_sources(config)[0].load(0, 100).labels.tolist() == [0, 0, 0]  # all just objects
    with pytest.raises(ValueError, match="no source of data.sources has any"):
        open_sources(replace(config, sources=(regions,)), named=True, partly=True)
    stream = CropStream(
        [nameless, named],
        replace(config, augment=replace(config.augment, paste=1.0)),
        seed=0,
        batches=8,
        batch_size=2,
    )
    targets = stack([stream[number] for number in range(16)]).targets
    seen = torch.cat([target.labels for target in targets])
    assert set(seen.tolist()) == {UNNAMED, 0, 1}
    assert all(target.ignored is None and target.masks.any() for target in targets)


def sample(kind: str) -> SourceConfig:
    places = {
        "coco_panoptic": {"panoptic": "panoptic.json", "panoptic_pngs": "panoptic"},
        "ade150": {"labels": "annotations", "first_label": 1, "names": "ade150.txt"},
        "voc20": {"labels": "labels", "first_label": 1, "names": "voc20.txt"},
    }[kind]
    folder = "{shared}/data/samples/" + kind
    values = {
        key: f"{{shared}}/data/vocabularies/{place}" if key == "names" else f"{folder}/{place}"
        for key, place in places.items()
        if key != "first_label"
    }
    return SourceConfig(
        images=f"{folder}/images", first_label=places.get("first_label", 0), **values
    )


@pytest.mark.parametrize(
    ("kind", "photos", "names", "expected"),
    [
        ("coco_panoptic", 4, 133, "person"),
        ("ade150", 4, 150, "building"),
        ("voc20", 3, 20, "person"),
    ],
)
def test_real_samples_become_named_crops(shared, kind, photos, names, expected):
    config = DataConfig(folders={"shared": str(shared)}, sources=(sample(kind),), sides=(96,))
    (source,) = open_sources(config, named=True)
    assert (len(source.photos), len(source.names)) == (photos, names)
    seen = {
        source.names[label]
        for index in range(photos)
        for label in source.load(index, 200).labels
        if label != IGNORED
    }
    assert expected in seen
    stream = CropStream([source], config, seed=0, batches=2, batch_size=2)
    batch = stack([stream[number] for number in range(4)])
    assert batch.images.shape == (4, 3, 96, 96)
    assert all(torch.isin(t.labels, torch.arange(names)).all() for t in batch.targets)


def test_real_lvis_annotations_are_read(shared):
    place = shared / "data" / "samples" / "lvis" / "lvis_val_100.json"
    photos, names = read_named_coco(place, place.parent)
    assert len(names) == 1230 and len(photos) == 100
    photo = max(photos, key=lambda each: len(each.annotations))
    found = photo.annotation()
    assert found.masks.any(axis=(1, 2)).all() and found.categories.max() < 1230
    np.testing.assert_allclose(found.masks.sum(axis=(1, 2)), found.areas, rtol=0.4, atol=60)
