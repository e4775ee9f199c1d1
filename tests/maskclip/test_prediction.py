"""Many photos from disk to disk: what is checked before, what goes on after a failure."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskclip.annotations import photo_key, read_photo_list
from maskclip.demo import find_in_package, load_demo
from maskclip.prediction import (
    Job,
    choose_device,
    choose_names,
    load_segmentor,
    predict,
    report,
    segment_photos,
)
from maskclip.segmentor import Segmentor

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def segmentor(tiny_checkpoint) -> Segmentor:
    return load_segmentor(str(tiny_checkpoint), device="cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MASKCLIP_CACHE", str(tmp_path / "cache"))


def add_photo(path: Path, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def photo_folder(tmp_path: Path) -> Path:
    """Four photos, one of them in a subfolder, and three files that are none."""
    folder = tmp_path / "in"
    for name in ("a.jpg", "b.png", "b.jpg", "sub/c.png"):
        add_photo(folder / name)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("no photo")
    (folder / "cut.jpg").write_bytes((folder / "a.jpg").read_bytes()[:700])
    return folder


def job(tmp_path: Path, **changes) -> Job:
    fields = {"inputs": [str(tmp_path / "in")], "names": ["cat", "sofa|couch"]}
    return Job(**{**fields, "output": tmp_path / "out", **changes})


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_failures_do_not_keep_the_others(tmp_path, segmentor, batch_size):
    photo_folder(tmp_path)
    outcomes = list(predict(job(tmp_path, batch_size=batch_size), segmentor))
    errors = {outcome.path.name: outcome.error for outcome in outcomes if outcome.error}
    assert sorted(errors) == ["cut.jpg", "empty.jpg", "text.jpg"]
    assert "is empty" in errors["empty.jpg"]
    stems = ["a", "b.jpg", "b.png", "sub/c"]
    kinds = [".json", ".labels.png", ".overlay.png"]
    assert files(tmp_path / "out") == sorted(
        [s + k for s in stems for k in kinds] + ["summary.json"]
    )
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["names"] == ["cat", "sofa|couch"]
    assert (summary["counts"]["photos"], summary["counts"]["done"]) == (7, 4)
    assert summary["counts"]["failed"] == 3
    entries = {Path(entry["path"]).name: entry for entry in summary["photos"]}
    assert entries["c.png"]["outputs"] == ["sub/c.overlay.png", "sub/c.labels.png", "sub/c.json"]
    assert "outputs" not in entries["cut.jpg"]
    assert entries["cut.jpg"]["error"] == errors["cut.jpg"]


def test_a_photo_that_cannot_be_saved_fails_alone(tmp_path, segmentor):
    photo_folder(tmp_path)
    (tmp_path / "out/a.json").mkdir(parents=True)  # in the way
    outcomes = list(segment_photos(job(tmp_path, kinds=["json"]), segmentor))
    failed = sorted(outcome.path.name for outcome in outcomes if outcome.error)
    assert failed == ["a.jpg", "cut.jpg", "empty.jpg", "text.jpg"]


def test_a_photo_that_cannot_be_segmented_fails_alone(tmp_path, segmentor):
    class Picky:
        """A proposer that wants a file for each photo, as ``files:`` does."""

        def propose_batch(self, images, stems):
            if "b" in stems:
                raise FileNotFoundError("there are no masks for b")
            return segmentor.proposer.propose_batch(images, stems)

    for name in ("a.jpg", "b.jpg", "c.jpg"):
        add_photo(tmp_path / "in" / name)
    picky = Segmentor(Picky(), segmentor.clip)
    outcomes = list(predict(job(tmp_path), picky))
    assert [bool(outcome.error) for outcome in outcomes] == [False, True, False]
    assert "b.jpg: there are no masks for b" in outcomes[1].error


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_thin_photos(tmp_path, segmentor, size):
    add_photo(tmp_path / "in/x.png", size)
    (outcome,) = predict(job(tmp_path), segmentor)
    assert not outcome.error
    assert Image.open(tmp_path / "out/x.labels.png").size == size


def test_labels_of_a_rotated_photo_match_what_a_viewer_shows(tmp_path, segmentor):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "in").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "in/x.jpg", exif=exif)
    list(predict(job(tmp_path), segmentor))
    assert Image.open(tmp_path / "out/x.labels.png").size == (30, 40)
    assert json.loads((tmp_path / "out/x.json").read_text())["image"]["height"] == 40


@pytest.mark.parametrize(
    ("count", "mode"), [(1, "L"), (300, "I;16"), pytest.param(5000, "I;16", marks=pytest.mark.slow)]
)
def test_number_of_names(tmp_path, segmentor, count, mode):
    add_photo(tmp_path / "in/x.png")
    names = [f"name {i}" for i in range(count)]
    (outcome,) = predict(job(tmp_path, names=names), segmentor)
    assert outcome.found
    assert Image.open(tmp_path / "out/x.labels.png").mode == mode
    assert json.loads((tmp_path / "out/x.json").read_text())["names"] == names


def test_masks_and_embeddings(tmp_path, segmentor):
    add_photo(tmp_path / "in/x.png")
    list(predict(job(tmp_path, kinds=["masks", "embeddings"]), segmentor))
    with np.load(tmp_path / "out/x.masks.npz") as masks:
        assert masks["masks"].shape == (5, 30, 40)
        assert masks["class_probs"].shape == (5, 2)
    with np.load(tmp_path / "out/x.embeddings.npz") as embeddings:
        assert embeddings["text_embeddings"].shape == (3, 16)  # cat, sofa, couch
        assert len(embeddings["region_embeddings"]) == embeddings["keep"].sum()


def test_stopping_early_leaves_whole_files_and_a_summary(tmp_path, segmentor):
    for name in "abc":
        add_photo(tmp_path / f"in/{name}.jpg")
    outcomes = predict(job(tmp_path, batch_size=1), segmentor)
    next(outcomes)
    outcomes.close()
    assert files(tmp_path / "out") == ["a.json", "a.labels.png", "a.overlay.png", "summary.json"]
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["counts"] == {**summary["counts"], "photos": 3, "done": 1, "failed": 0}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"inputs": ["nowhere"]}, FileNotFoundError, "nowhere"),
        ({"names": []}, ValueError, "list of names is empty"),
        ({"names": ["cat", " "]}, ValueError, "blank"),
        ({"kinds": ["pictures"]}, ValueError, "choose from overlay"),
        ({"batch_size": 0}, ValueError, "at least 1"),
    ],
)
def test_a_wrong_job_is_refused(tmp_path, changes, error, message):
    add_photo(tmp_path / "in/x.jpg")
    with pytest.raises(error, match=message):
        job(tmp_path, **changes)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("inside", ["", "deeper/still"])
def test_an_output_that_is_a_file_is_refused(tmp_path, inside):
    add_photo(tmp_path / "in/x.jpg")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write into"):
        job(tmp_path, output=tmp_path / "file" / inside)


def test_an_output_without_permission_is_refused(tmp_path, monkeypatch):
    add_photo(tmp_path / "in/x.jpg")
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    with pytest.raises(PermissionError, match="no permission to write"):
        job(tmp_path)


def test_names_given_twice_are_merged_and_said_once(caplog):
    assert choose_names("cat,dog,cat,cat", None) == ["cat", "dog", "cat", "cat"]
    assert [record.getMessage() for record in caplog.records] == [
        "names given more than once are used once: cat"
    ]


def test_names_from_a_file_may_hold_commas(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("cat\nbread, sliced|toast\n", encoding="utf-8")
    assert choose_names(None, str(path)) == ["cat", "bread, sliced|toast"]


def test_devices():
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") in ("cpu", "cuda", "mps")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no device 'cuda': choose"):
            choose_device("cuda")


def test_background_is_a_setting(tiny_checkpoint):
    segmentor = load_segmentor(str(tiny_checkpoint), device="cpu", background=r"wall,a\,b")
    assert segmentor.config.background == r"wall,a\,b"


def test_the_report_says_size_names_and_times(tmp_path, segmentor):
    add_photo(tmp_path / "in/x.jpg")
    (tmp_path / "in/y.jpg").write_text("no photo")
    out, err = io.StringIO(), io.StringIO()
    assert report(predict(job(tmp_path), segmentor), 2, out, err) == 1
    (line,) = out.getvalue().splitlines()
    assert "x.jpg 30x40: " in line
    assert "%" in line
    for stage in ("propose", "crop", "clip", "assemble", "total", "save"):
        assert f"{stage} " in line
    assert "y.jpg is not a photo" in err.getvalue()
    assert "1 of 2 photos failed" in err.getvalue()


def test_the_report_survives_a_poor_terminal(tmp_path, segmentor):
    add_photo(tmp_path / "in/été.jpg")
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    assert report(predict(job(tmp_path), segmentor), 1, out, io.StringIO()) == 0
    out.flush()
    assert rb"\xe9t\xe9.jpg" in raw.getvalue()


def test_the_demo_has_its_photos():
    photos = load_demo(ROOT / "configs" / "demo.yaml")
    assert len(photos) >= 5
    assert all(path.is_file() and names for path, names in photos)


def test_the_demo_takes_more_photos_where_they_are(tmp_path):
    config = tmp_path / "configs" / "demo.yaml"
    config.parent.mkdir()
    config.write_text("more:\n- {photo: ../here.png, names: [cat]}\n- {photo: gone.png}\n")
    assert load_demo(config) == []
    add_photo(tmp_path / "here.png")
    ((photo, names),) = load_demo(config)
    assert photo.samefile(tmp_path / "here.png") and names == ("cat",)


def test_more_of_the_demo_was_never_trained_on(shared):
    validation = read_photo_list(shared / "data" / "splits" / "coco_val.txt")
    more = [path for path, _ in load_demo(ROOT / "configs" / "demo.yaml") if "coco" in path.parts]
    assert len(more) == 6 and all(photo_key(path.name) in validation for path in more)


@pytest.mark.parametrize("location", ["skimage/data/none.png", "no_such_package/x.png", "..", ""])
def test_a_missing_sample_photo_is_one_sentence(location):
    with pytest.raises(FileNotFoundError, match="run make setup"):
        find_in_package(location)
