"""The command: metrics, exit codes, sentences, reports to look at."""

import base64
import io
import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
call = runpy.run_path(str(Path(__file__).with_name("calling.py")))["caller"]("evaluate")
NAMES = ["sky", "cat, kitten", "sky", "dog", "tree"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> None:
    """Five photos of different sizes with labels 0 to 4 and 255, one label map of 16 bits."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    Path("images").mkdir()
    Path("labels").mkdir()
    for index, size_hw in enumerate([(40, 50), (33, 48), (64, 20), (40, 40), (25, 60)]):
        colours = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        photo = Image.fromarray(colours).resize(size_hw[::-1], Image.Resampling.NEAREST)
        photo.save(f"images/{index}.png")
        labels = rng.integers(0, 4, (4, 4)).repeat(16, 0).repeat(16, 1)[: size_hw[0], : size_hw[1]]
        labels = np.pad(
            labels,
            [(0, side - got) for side, got in zip(size_hw, labels.shape, strict=True)],
            constant_values=255,
        )
        kind = np.uint16 if index == 4 else np.uint8
        Image.fromarray(labels.astype(kind)).save(f"labels/{index}.png")
    Path("names.txt").write_text("\n".join(NAMES) + "\n")


def own(checkpoint, **changes: object) -> list[object]:
    flags = {
        "model": checkpoint,
        "images": "images",
        "labels": "labels",
        "classes-file": "names.txt",
    }
    flags |= {"device": "cpu", "output": "out/metrics.json"} | changes
    return [part for name, value in flags.items() if value for part in (f"--{name}", value)]


def metrics(path: str = "out/metrics.json") -> dict:
    return json.loads(Path(path).read_text())


def test_a_folder_of_ones_own(monkeypatch, capsys, tiny_checkpoint):
    Path("seen.txt").write_text("Sky\n dog\n")
    assert call(monkeypatch, *own(tiny_checkpoint, **{"seen-file": "seen.txt"})) == 0
    found = metrics()
    percent = ["mIoU", "mIoU_union", "fwIoU", "mACC", "pACC"]
    assert list(found)[:8] == [*percent, "seen_mIoU", "unseen_mIoU", "hIoU"]
    assert all(0 <= found[key] <= 100 for key in percent)
    assert found["photos"] == 5
    assert "cat, kitten" in found["per_class"]
    assert found["per_class"]["sky (label 2)"] == {"IoU": 0.0, "ACC": 0.0}
    assert "mIoU" in capsys.readouterr().out
    assert [path.name for path in Path("out").iterdir()] == ["metrics.json"]


def test_the_numbers_are_those_of_the_segmentor(monkeypatch, tiny_checkpoint):
    """Counted here pixel by pixel, with the merged name mapped back by hand."""
    from maskclip.segmentor import Segmentor

    assert call(monkeypatch, *own(tiny_checkpoint)) == 0
    segmentor = Segmentor.from_pretrained(tiny_checkpoint, overrides=["segmentor.background=none"])
    back = np.array([0, 1, 3, 4])
    said, true = [], []
    for index in range(5):
        said.append(back[segmentor.segment(f"images/{index}.png", NAMES).labels].ravel())
        true.append(np.asarray(Image.open(f"labels/{index}.png")).ravel())
    said, true = np.concatenate(said), np.concatenate(true).astype(int)
    said, true = said[true != 255], true[true != 255]
    ious = [
        ((said == name) & (true == name)).sum() / ((said == name) | (true == name)).sum()
        for name in np.unique(true)
    ]
    assert metrics()["mIoU"] == pytest.approx(100 * np.mean(ious), abs=0.05)
    assert metrics()["pACC"] == pytest.approx(100 * np.mean(said == true), abs=0.05)


def test_several_workers_give_the_numbers_of_one(monkeypatch, tiny_checkpoint):
    assert call(monkeypatch, *own(tiny_checkpoint, **{"batch-size": 2})) == 0
    more = {"batch-size": 2, "workers": 2, "output": "two.json"}
    assert call(monkeypatch, *own(tiny_checkpoint, **more)) == 0
    assert metrics() == metrics("two.json")


@pytest.mark.parametrize("oracle", ["masks", "classes"])
def test_oracles(monkeypatch, tiny_checkpoint, oracle):
    assert call(monkeypatch, *own(tiny_checkpoint, oracle=oracle)) == 0
    assert metrics()["oracle"] == oracle


def test_search_finds_the_settings_of_the_best_run(monkeypatch, tiny_checkpoint):
    flags = own(tiny_checkpoint, report="report")
    search = ["--search", "mask_threshold=0.3,0.5", "objectness_power=0,1"]
    assert call(monkeypatch, *flags, *search) == 0
    found = metrics()
    assert len(found["search"]) == 4
    assert found["mIoU"] == max(row["mIoU"] for row in found["search"])
    assert "Search: best" in Path("report/index.html").read_text()
    best = [f"segmentor.{key}={value}" for key, value in found["best"].items()]
    assert call(monkeypatch, *own(tiny_checkpoint, output="best.json"), "--set", *best) == 0
    assert metrics("best.json")["mIoU"] == pytest.approx(found["mIoU"], abs=0.01)


def test_a_report_that_needs_no_other_file(monkeypatch, tiny_checkpoint):
    assert call(monkeypatch, *own(tiny_checkpoint, report="report")) == 0
    assert [path.name for path in Path("report").iterdir()] == ["index.html"]
    page = Path("report/index.html").read_text()
    assert "cat, kitten" in page
    assert "Worst photos" in page
    assert "Best photos" in page
    assert not re.findall(r"(?:src|href)=['\"](?!data:)", page)
    pictures = re.findall(r"data:image/jpeg;base64,([^']+)", page)
    assert len(pictures) == 3 * 5
    for picture in pictures:
        Image.open(io.BytesIO(base64.b64decode(picture))).load()


def test_names_are_told_from_tags(monkeypatch, tiny_checkpoint):
    Path("names.txt").write_text("<b>sky</b>\ncat\nsea\ndog\ntree\n")
    assert call(monkeypatch, *own(tiny_checkpoint, report="report")) == 0
    page = Path("report/index.html").read_text()
    assert "&lt;b&gt;sky" in page
    assert "<b>sky" not in page


def test_commas_as_synonyms(monkeypatch, tiny_checkpoint):
    assert call(monkeypatch, *own(tiny_checkpoint), "--set", "data.commas=synonyms") == 0
    assert "cat, kitten" in metrics()["per_class"]


def test_a_stopped_evaluation_goes_on(monkeypatch, capsys, tiny_checkpoint):
    assert call(monkeypatch, *own(tiny_checkpoint)) == 0
    whole = metrics()
    good = Path("labels/3.png").read_bytes()
    Image.fromarray(np.full((40, 40), 9, np.uint8)).save("labels/3.png")
    again = own(tiny_checkpoint, **{"batch-size": 1, "output": "again.json"})
    assert call(monkeypatch, *again) == 2
    sentence = r"labels/3.png must hold labels 0 to 4, or 255 where nothing is counted, got 9"
    assert re.search(sentence, capsys.readouterr().err)
    assert not Path("again.json").exists()
    assert len(Path("again.json.progress.jsonl").read_text().splitlines()) == 4
    Path("labels/3.png").write_bytes(good)
    assert call(monkeypatch, *again) == 0
    assert not Path("again.json.progress.jsonl").exists()
    assert metrics("again.json")["mIoU"] == pytest.approx(whole["mIoU"], abs=0.05)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"images": ""}, r"say what to evaluate on: --dataset NAME, .*\(missing: --images\)"),
        ({"dataset": "ade150"}, "give either --dataset or --images, not both"),
        ({"labels": "nowhere"}, "expected a folder of label PNGs, there is none at nowhere"),
        ({"classes-file": "no.txt"}, "one name a line, found none at no.txt"),
        ({"ignore": 3}, r"must not be one of the 5 names' \(0 to 4\), got 3"),
        ({"seen-file": "images/0.png"}, "is not UTF-8 text"),
        ({"limit": -1}, "--limit must be at least 1, got -1"),
        ({"workers": -1}, "--workers must be at least 1, got -1"),
        ({"model": "nano2"}, "there is no model 'nano2'"),
        ({"device": "tpu"}, "this machine has no device 'tpu'"),
        ({"task": "boxes"}, "--task must be one of semantic, proposals, regions, got 'boxes'"),
        ({"task": "proposals"}, "--labels does not go with --task proposals"),
        ({"set": "data.comma=first"}, "unknown key comma: known are commas, short_side"),
        ({"set": "segmentor.x=1"}, "unknown key x: known are background"),
        ({"output": "images"}, "--output must be a file such as metrics.json"),
        ({"report": "names.txt"}, "cannot write into names.txt"),
    ],
)
def test_what_is_wrong_is_one_sentence(monkeypatch, capsys, tiny_checkpoint, changes, sentence):
    assert call(monkeypatch, *own(tiny_checkpoint, **changes)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("evaluate: error: ")
    assert re.search(sentence, lines[-1])
    assert not Path("out/metrics.json").exists()


def test_seen_names_must_be_known(monkeypatch, capsys, tiny_checkpoint):
    Path("seen.txt").write_text("sky\nzebra\n")
    assert call(monkeypatch, *own(tiny_checkpoint, **{"seen-file": "seen.txt"})) == 2
    assert "names 'zebra' (1 of 2 such), which is not in the class list" in capsys.readouterr().err


@pytest.fixture
def objects(place) -> None:  # noqa: ARG001 (they are its photos)
    """COCO instances of two photos: a rectangle each, a crowd, a line without pixels."""
    annotations = [
        {"image_id": 1, "category_id": 7, "segmentation": [[5, 5, 45, 5, 45, 35, 5, 35]]},
        {"image_id": 2, "category_id": 3, "segmentation": [[0, 0, 20, 0, 20, 30, 0, 30]]},
        {"image_id": 2, "category_id": 3, "segmentation": [[0, 0, 9, 0, 9, 9]], "iscrowd": 1},
        {"image_id": 2, "category_id": 3, "segmentation": [[1, 1, 2, 2]]},
    ]
    for number, annotation in enumerate(annotations):
        annotation |= {"id": number, "area": 600.0, "iscrowd": annotation.get("iscrowd", 0)}
    content = {
        "images": [
            {"id": 1, "file_name": "0.png", "height": 40, "width": 50},
            {"id": 2, "file_name": "1.png", "height": 33, "width": 48},
        ],
        "annotations": annotations,
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
    }
    Path("coco.json").write_text(json.dumps(content))


def on_objects(model, task: str, **changes: object) -> list[object]:
    nothing = {"labels": "", "classes-file": ""}
    return own(model, task=task, instances="coco.json", **nothing, **changes)


@pytest.mark.usefixtures("objects")
def test_recall_of_proposals(monkeypatch, tiny_checkpoint):
    assert call(monkeypatch, *on_objects(tiny_checkpoint, "proposals")) == 0
    found = metrics()
    sizes = ("", "_small", "_medium", "_large")
    expected = {f"AR@{count}{size}" for count in (10, 100, 1000) for size in sizes}
    assert expected | {"best_overlap"} <= set(found)
    assert found["AR@100_large"] is None  # there are no large objects
    assert 0 <= found["AR@100"] <= 100
    assert found["photos"] == 2


@pytest.mark.usefixtures("objects")
def test_recall_of_perfect_masks_is_perfect(monkeypatch, tiny_checkpoint):
    Path("masks").mkdir()
    for name, size_hw, rows, columns in (
        ("0", (40, 50), slice(5, 35), slice(5, 45)),
        ("1", (33, 48), slice(0, 30), slice(0, 20)),
    ):
        mask = np.zeros(size_hw, np.uint8)
        mask[rows, columns] = 1
        Image.fromarray(mask).save(f"masks/{name}.png")
    flags = on_objects(tiny_checkpoint, "proposals", proposer="files:masks")
    assert call(monkeypatch, *flags) == 0
    assert metrics()["AR@10"] == metrics()["best_overlap"] == 100


@pytest.mark.usefixtures("objects")
def test_names_of_true_masks(monkeypatch, tiny_checkpoint):
    assert call(monkeypatch, *on_objects(tiny_checkpoint, "regions")) == 0
    assert metrics()["regions"] == 2
    assert set(metrics()["per_class"]) == {"dog", "cat"}


@pytest.mark.usefixtures("objects")
def test_photos_that_are_not_there_are_told(monkeypatch, capsys, caplog, tiny_checkpoint):
    Path("images/1.png").unlink()
    assert call(monkeypatch, *on_objects(tiny_checkpoint, "proposals")) == 0
    assert "1 of 2 photos are not in images and are left out: 1.png" in caplog.text
    Path("images/0.png").unlink()
    assert call(monkeypatch, *on_objects(tiny_checkpoint, "proposals")) == 2
    assert "none of the 2 photos of coco.json is in images" in capsys.readouterr().err


def test_a_prepared_data_set(monkeypatch, capsys, caplog, shared, tiny_checkpoint):
    source = shared / "data" / "samples" / "sunrgbd37"
    flags = ["sunrgbd37", "--source", source, "--split", "test", "--workers", 1]
    assert call(monkeypatch, *flags, tool="prepare_data") == 0
    assert "incomplete: 1 photos" in capsys.readouterr().err
    flags = ["--model", tiny_checkpoint, "--dataset", "SUN-RGBD-37", "--output", "m.json"]
    assert call(monkeypatch, *flags) == 0
    assert "1 photos of 5050" in caplog.text
    assert metrics("m.json")["photos"] == 1
    assert call(monkeypatch, *flags, "--task", "proposals") == 2
    assert "has no instances.json: lvis and coco_instances" in capsys.readouterr().err
    assert call(monkeypatch, *flags[:3], "ade150", *flags[4:]) == 2
    assert "no prepared ade150 in data/ade150: run `python tools/" in capsys.readouterr().err


def test_the_preparation_says_what_is_wrong(monkeypatch, capsys):
    assert call(monkeypatch, "ade150", "--source", "labels", tool="prepare_data") == 2
    assert "prepare_data: error: " in capsys.readouterr().err
    assert not Path("data").exists()
