"""Real samples laid out as the official downloads are, prepared and looked into."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskclip.datasets.description import CONFIGS, DESCRIPTIONS, load_description
from maskclip.datasets.preparation import AT_ONCE, Preparation, prepare
from maskclip.datasets.prepared import find_prepared, open_prepared
from maskclip.names import read_class_file


def lay_out(folder: Path, files: dict[str, Path]) -> Path:
    """Copy files to where the download has them."""
    for place, file in files.items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    return folder


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(np.int64)


@pytest.fixture
def samples(shared) -> Path:
    return shared / "data" / "samples"


@pytest.fixture
def ade(samples, tmp_path) -> Path:
    source = samples / "ade150"
    files = {}
    for path in sorted((source / "images").iterdir()):
        split = "validation" if "_val_" in path.name else "training"
        files[f"ADEChallengeData2016/images/{split}/{path.name}"] = path
        label = source / "annotations" / f"{path.stem}.png"
        files[f"ADEChallengeData2016/annotations/{split}/{label.name}"] = label
    return lay_out(tmp_path / "download", files)


def test_every_description_has_its_names_and_layouts():
    stems = [path.stem for path in DESCRIPTIONS.glob("*.yaml")]
    sizes = {
        "ade150": 150,
        "ade847": 847,
        "pc59": 59,
        "pc459": 459,
        "voc20": 20,
        "coco_stuff171": 171,
        "coco_panoptic": 133,
        "cityscapes": 19,
        "camvid": 11,
        "sunrgbd37": 37,
        "lvis": 0,
        "coco_instances": 0,
    }
    assert {stem: len(load_description(stem)[1].read_names()) for stem in stems} == sizes
    assert len(read_class_file(CONFIGS / "vocabularies" / "lvis1203.txt")) == 1203


@pytest.mark.parametrize(
    ("asked", "name"),
    [("A-150", "ade150"), ("pas20", "voc20"), ("COCO-Stuff-171", "coco_stuff171")],
)
def test_data_sets_have_several_names(asked, name):
    assert load_description(asked)[0] == name
    with pytest.raises(FileNotFoundError, match="no data set 'nyu': known are ade150"):
        load_description("nyu")


def test_name_lists_are_those_of_the_project(shared):
    for stem in ("ade150", "ade847", "pc59", "pc459", "voc20"):
        ours = (CONFIGS / "vocabularies" / f"{stem}.txt").read_text()
        assert ours.split("\n") == (
            shared / "data" / "vocabularies" / f"{stem}.txt"
        ).read_text().split("\n")


def test_the_names_of_pascal_contexts_maps_agree():
    """MMSegmentation's order is the 459 names' order, which is the alphabet's."""
    _, description = load_description("pc59")
    order = description.layouts[-1].order
    assert sorted(order) == list(order)
    assert set(order) == set(description.read_names())
    assert set(order) <= set(read_class_file(CONFIGS / "vocabularies" / "pc459.txt"))


def test_ade150(ade, samples, tmp_path):
    summary = prepare(Preparation("ade150", ade, tmp_path / "out"))
    assert (summary.photos, summary.expected) == (3, 2000)
    assert "incomplete: 3 photos, the official split has 2,000" in summary.lines()[1]
    prepared = open_prepared(tmp_path / "out")
    assert (prepared.name, prepared.photos, prepared.is_whole) == ("ade150", 3, False)
    for path in sorted((tmp_path / "out" / "labels").iterdir()):
        raw, ours = read(samples / "ade150" / "annotations" / path.name), read(path)
        np.testing.assert_array_equal(ours == 255, raw == 0)
        np.testing.assert_array_equal(ours[raw > 0], raw[raw > 0] - 1)
        photo = tmp_path / "out" / "images" / f"{path.stem}.jpg"
        assert photo.is_symlink()
        assert photo.read_bytes() == (samples / "ade150" / "images" / photo.name).read_bytes()
    train = prepare(Preparation("ade150", ade, tmp_path / "train", split="train", copy=True))
    assert train.photos == 1
    assert not (tmp_path / "train" / "images" / "ADE_train_00000001.jpg").is_symlink()


def test_ade_full_by_the_names_in_its_annotations(samples, tmp_path):
    place = "ADE20K_2021_17_01/images/ADE/validation/urban/street"
    files = {f"{place}/{p.name}": p for p in (samples / "ade_full").iterdir()}
    source = lay_out(tmp_path / "download", files)
    prepare(Preparation("ade847", source, tmp_path / "out"))
    names = (tmp_path / "out" / "names.txt").read_text().splitlines()
    path = samples / "ade_full" / "ADE_train_00016869_seg.png"
    colours = read(path)
    raw = colours[..., 0] // 10 * 256 + colours[..., 1]
    image = Image.open(tmp_path / "out" / "labels" / "ADE_train_00016869.png")
    assert image.mode == "I;16"
    ours = np.asarray(image)
    for number, name in ((2420, "sky"), (312, "building, edifice"), (0, None)):
        expected = 65535 if name is None else names.index(name)
        assert set(np.unique(ours[raw == number])) == {expected}
    assert open_prepared(tmp_path / "out").short_side == 512


def test_pas20_keeps_to_its_list(samples, tmp_path):
    root = "VOCdevkit/VOC2012"
    files = {f"{root}/JPEGImages/{p.name}": p for p in (samples / "voc20" / "images").iterdir()}
    for path in (samples / "voc20" / "labels").iterdir():
        files[f"{root}/SegmentationClass/{path.name}"] = path
    source = lay_out(tmp_path / "download", files)
    with pytest.raises(FileNotFoundError, match="VOC2012/ImageSets/Segmentation/val.txt, which"):
        prepare(Preparation("voc20", source, tmp_path / "out"))
    listed = source / root / "ImageSets" / "Segmentation" / "val.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("2011_000003\n2011_000025\n2007_000033\n")
    summary = prepare(Preparation("voc20", source, tmp_path / "out"))
    assert summary.photos == 2
    assert summary.missing == ("photo 2007_000033", "labels of 2007_000033")
    raw = read(samples / "voc20" / "labels" / "2011_000003.png")
    ours = read(tmp_path / "out" / "labels" / "2011_000003.png")
    np.testing.assert_array_equal(ours == 255, (raw == 0) | (raw == 255))
    assert set(np.unique(ours)) == {4, 14, 255}


def test_coco_panoptic_by_its_annotations(samples, tmp_path):
    source = samples / "coco_panoptic"
    files = {"annotations/panoptic_val2017.json": source / "panoptic.json"}
    files |= {f"val2017/{p.name}": p for p in (source / "images").iterdir()}
    files |= {f"annotations/panoptic_val2017/{p.name}": p for p in (source / "panoptic").iterdir()}
    prepare(Preparation("coco_panoptic", lay_out(tmp_path / "d", files), tmp_path / "out"))
    content = json.loads((source / "panoptic.json").read_text())
    order = [c["id"] for c in sorted(content["categories"], key=lambda one: one["id"])]
    for annotation in content["annotations"]:
        ours = read(tmp_path / "out" / "labels" / annotation["file_name"])
        areas = np.bincount(ours.ravel(), minlength=256)
        stated = np.zeros(256, dtype=int)
        for segment in annotation["segments_info"]:
            stated[order.index(segment["category_id"])] += segment["area"]
        np.testing.assert_array_equal(areas[:133], stated[:133])


def test_lvis_with_the_photos_that_are_there(shared, tmp_path):
    stems = ["000000011813", "000000505573", "000000527220"]
    coco, lvis = shared / "data" / "coco" / "images", shared / "data" / "samples" / "lvis"
    files = {"annotations/lvis_v1_val.json": lvis / "lvis_val_100.json"}
    files |= {f"train2017/{stem}.jpg": coco / f"{stem}.jpg" for stem in stems}
    summary = prepare(Preparation("lvis", lay_out(tmp_path / "d", files), tmp_path / "out"))
    assert summary.photos == 3
    assert summary.missing[0].endswith("the annotations have 1,230")
    content = json.loads((tmp_path / "out" / "instances.json").read_text())
    assert {p["file_name"] for p in content["images"]} == {f"{stem}.jpg" for stem in stems}
    names = (tmp_path / "out" / "names.txt").read_text().splitlines()
    assert (len(names), names[0], names[-1]) == (1230, "acorn", "zucchini")
    labels = read(tmp_path / "out" / "labels" / "000000011813.png")
    held = {names[i] for i in np.unique(labels) if i != 65535}
    of_photo = [a for a in content["annotations"] if a["image_id"] == 11813]
    assert held <= {names[a["category_id"] - 1] for a in of_photo}
    assert held


def test_sun_rgbd_by_split(samples, tmp_path):
    source = samples / "sunrgbd37"
    assert prepare(Preparation("sunrgbd37", source, tmp_path / "all")).photos == 2
    assert prepare(Preparation("sunrgbd37", source, tmp_path / "one", split="test")).photos == 1
    ours = read(tmp_path / "one" / "labels" / "test_1.png")
    np.testing.assert_array_equal(ours, read(source / "labels" / "test_1.png"))
    with pytest.raises(ValueError, match="no split 'dev': choose from all, test, train"):
        prepare(Preparation("sunrgbd37", source, tmp_path / "two", split="dev"))


def small(tmp_path: Path, labels: dict[str, np.ndarray], photos: str, ends: str) -> Path:
    """A download of made-up label maps with black photos."""
    for place, values in labels.items():
        path = tmp_path / "download" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(values, dtype=np.uint8)).save(path)
        photo = tmp_path / "download" / photos / path.name.replace(ends, "")
        photo.parent.mkdir(parents=True, exist_ok=True)
        suffix = "_leftImg8bit.png" if "gtFine" in ends else ".jpg"
        Image.new("RGB", np.asarray(values).shape[::-1]).save(f"{photo}{suffix}")
    return tmp_path / "download"


def test_cityscapes_ids(tmp_path):
    end = "_gtFine_labelIds.png"
    place = f"gtFine/val/frankfurt/frankfurt_000000_000294{end}"
    source = small(tmp_path, {place: [[7, 33, 0, 29]]}, "leftImg8bit/val/frankfurt", end)
    prepare(Preparation("cityscapes", source, tmp_path / "out"))
    ours = read(tmp_path / "out" / "labels" / "frankfurt_000000_000294.png")
    assert ours.tolist() == [[0, 18, 255, 255]]


def test_coco_stuff_values_have_gaps(tmp_path):
    place = "stuffthingmaps/val2017/000000000139.png"
    source = small(tmp_path, {place: [[0, 12, 181, 255]]}, "val2017", ".png")
    prepare(Preparation("coco_stuff171", source, tmp_path / "out"))
    names = read_class_file(tmp_path / "out" / "names.txt")
    ours = read(tmp_path / "out" / "labels" / "000000000139.png")[0]
    assert [names[i] for i in ours[:3]] == ["person", "stop sign", "wood"]
    assert ours[3] == 255


@pytest.mark.parametrize("listed", [True, False])
def test_pascal_context_59_by_its_list_or_by_the_alphabet(tmp_path, listed):
    names = list(load_description("pc59")[1].read_names())
    folder = "59_context_labels" if listed else "VOC2010/SegmentationClassContext"
    place = f"{folder}/2008_000002.png"
    source = small(tmp_path, {place: [[0, 1, 2, 59]]}, "VOC2010/JPEGImages", ".png")
    kind = "Main" if listed else "SegmentationContext"
    (source / "VOC2010" / "ImageSets" / kind).mkdir(parents=True)
    (source / "VOC2010" / "ImageSets" / kind / "val.txt").write_text("2008_000002\n")
    if listed:
        order = names[::-1]
        lines = [f"{value}: {name}" for value, name in enumerate(order, start=1)]
        (source / "59_labels.txt").write_text("\n".join(lines))
    else:
        order = sorted(names)
    prepare(Preparation("pc59", source, tmp_path / "out"))
    ours = read(tmp_path / "out" / "labels" / "2008_000002.png")[0]
    assert ours[0] == 255
    assert [names[i] for i in ours[1:]] == [order[0], order[1], order[58]]


def test_pascal_context_maps_of_459_names_serve_both(tmp_path):
    from scipy.io import savemat

    every = read_class_file(CONFIGS / "vocabularies" / "pc459.txt")
    source = tmp_path / "download"
    (source / "trainval").mkdir(parents=True)
    values = [
        0,
        every.index("aeroplane") + 1,
        every.index("wood") + 1,
        every.index("accordion") + 1,
    ]
    savemat(source / "trainval" / "x.mat", {"LabelMap": np.array([values], dtype=np.uint16)})
    (source / "VOC2010" / "JPEGImages").mkdir(parents=True)
    Image.new("RGB", (4, 1)).save(source / "VOC2010" / "JPEGImages" / "x.jpg")
    (source / "VOC2010" / "ImageSets" / "Main").mkdir(parents=True)
    (source / "VOC2010" / "ImageSets" / "Main" / "val.txt").write_text("x\n")
    for name, ignore in (("pc459", 65535), ("pc59", 255)):
        prepare(Preparation(name, source, tmp_path / name))
        names = read_class_file(tmp_path / name / "names.txt")
        ours = read(tmp_path / name / "labels" / "x.png")[0]
        expected = [names.index("aeroplane"), names.index("wood")]
        last = names.index("accordion") if name == "pc459" else ignore
        assert ours.tolist() == [ignore, *expected, last]


def test_a_label_out_of_range_stops_it_and_nothing_is_complete(ade, tmp_path):
    bad = ade / "ADEChallengeData2016" / "annotations" / "validation" / "ADE_val_00000002.png"
    labels = read(bad)
    labels[0, 0] = 151
    Image.fromarray(labels.astype(np.uint8)).save(bad)
    job = Preparation("ade150", ade, tmp_path / "data" / "ade150")
    with pytest.raises(
        ValueError, match=r"ADE_val_00000002.png holds the value 151, expected 1 to"
    ):
        prepare(job)
    with pytest.raises(
        ValueError, match="is only partly prepared: run tools/prepare_data.py again"
    ):
        find_prepared("ade150", tmp_path / "data")
    labels[0, 0] = 0
    Image.fromarray(labels.astype(np.uint8)).save(bad)
    done = tmp_path / "data" / "ade150" / "labels" / "ADE_val_00000001.png"
    stamp = done.stat().st_mtime_ns
    assert prepare(job).photos == 3
    assert done.stat().st_mtime_ns == stamp  # it went on where it was
    assert find_prepared("ade150", tmp_path / "data").photos == 3


def test_labels_of_another_size_stop_it(ade, tmp_path):
    photo = ade / "ADEChallengeData2016" / "images" / "validation" / "ADE_val_00000003.jpg"
    Image.new("RGB", (10, 10)).save(photo)
    with pytest.raises(ValueError, match=r"ADE_val_00000003.jpg must be 10 x 10 like the photo"):
        prepare(Preparation("ade150", ade, tmp_path / "out"))


def test_several_processes_write_the_same(ade, tmp_path):
    for kind, end in (("images", ".jpg"), ("annotations", ".png")):
        folder = ade / "ADEChallengeData2016" / kind / "validation"
        for index in range(AT_ONCE):
            shutil.copyfile(folder / f"ADE_val_00000003{end}", folder / f"copy_{index}{end}")
    one = Preparation("ade150", ade, tmp_path / "one")
    assert prepare(one).photos > AT_ONCE
    prepare(replace(one, output=tmp_path / "two", workers=2))
    for path in (tmp_path / "one" / "labels").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / "labels" / path.name).read_bytes()


def test_what_lies_in_the_output_is_not_touched(ade, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and no data set was prepared in it"):
        prepare(Preparation("ade150", ade, tmp_path / "out"))
    prepare(Preparation("ade150", ade, tmp_path / "val"))
    with pytest.raises(ValueError, match="holds a preparation of something else"):
        prepare(Preparation("ade150", ade, tmp_path / "val", split="train"))
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out" / "mine.txt"]


def test_what_is_missing_is_said(ade, tmp_path):
    with pytest.raises(FileNotFoundError, match="folder of the download, there is none at"):
        prepare(Preparation("ade150", tmp_path / "nowhere", tmp_path / "out"))
    sentence = r"does not hold Cityscapes, 19 names .* expected leftImg8bit/val \+ gtFine/val"
    with pytest.raises(FileNotFoundError, match=sentence):
        prepare(Preparation("cityscapes", ade, tmp_path / "out"))
    with pytest.raises(FileNotFoundError, match="no prepared ade150 in .*prepare_data.py ade150"):
        find_prepared("ade150", tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_list_of_photos_and_names_of_ones_own(shared, tmp_path):
    data = shared / "data"
    (tmp_path / "photos.txt").write_text("000000000790.jpg\n802\n")
    (tmp_path / "names.txt").write_text("refrigerator\nperson\n")
    job = Preparation(
        "coco_instances",
        data / "coco",
        tmp_path / "out",
        photos=str(tmp_path / "photos.txt"),
        classes_file=str(tmp_path / "names.txt"),
    )
    summary = prepare(job)
    assert (summary.photos, summary.names, summary.expected) == (2, 2, 0)
    assert open_prepared(tmp_path / "out").is_whole
    with pytest.raises(ValueError, match="can be given for instances only"):
        prepare(replace(job, dataset="voc20", source=data / "samples" / "voc20"))
