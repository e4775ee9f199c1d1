"""A whole run: the same rows however it is cut up, interrupted and taken up."""

import json
import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from labeling import self_label as running
from labeling.label_config import LabelConfig
from labeling.matching import MatchConfig
from labeling.self_label import Job, choose_devices, export_finished, self_label, tell
from maskclip.pairs import images_root, read_pairs

CAPTIONED = runpy.run_path(str(Path(__file__).with_name("captioned.py")))
COUNT = 11


@pytest.fixture(scope="module")
def job(tmp_path_factory, tiny_checkpoint) -> Job:
    place = tmp_path_factory.mktemp("captioned")
    images, captions = CAPTIONED["write_captioned"](place, COUNT)
    (images / "007.png").write_bytes(b"nothing that is a photo")
    (images / "002.png").unlink()
    config = LabelConfig(str(tiny_checkpoint), shard_size=4, match=MatchConfig(top_k=2))
    return Job(images, captions, place / "out", config, workers=1, device="cpu")


@pytest.fixture(scope="module")
def finished(job) -> Path:
    self_label(job)
    return job.output


def changed(job: Job, output: Path, *, how: dict | None = None, **config) -> Job:
    return replace(job, output=output, config=replace(job.config, **config), **(how or {}))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_run_leaves_everything_that_is_promised(job, finished):
    shards = [f"pairs-0000{index}.parquet" for index in range(3)]
    told = ["summary.json", "run.json", "manifest.jsonl", "skipped.jsonl", "pairs.html"]
    assert set(shards + told) <= set(files(finished))
    summary = json.loads((finished / "summary.json").read_text())
    rows = read_pairs(finished).to_pylist()
    assert (summary["images"], summary["captions"], summary["skipped"]) == (COUNT, 22, 2)
    assert summary["pairs"] == len(rows) > 20
    skipped = [json.loads(line) for line in (finished / "skipped.jsonl").open()]
    assert [one["image"] for one in skipped] == ["002.png", "007.png"]
    assert "no photo 002.png" in skipped[0]["reason"]
    assert images_root(finished) == job.images.resolve()
    assert [row["image"] for row in rows] == sorted(row["image"] for row in rows)
    for noun_rows in ([row for row in rows if row["noun"] == "dog" and row["image"] == "000.png"],):
        assert noun_rows[0]["score"] >= noun_rows[1]["score"]
    assert "2 photos were left out" in tell(summary, finished)


@pytest.mark.parametrize("shard_size", [1, 3, 100])
def test_rows_do_not_depend_on_the_shards(job, finished, tmp_path, shard_size):
    self_label(changed(job, tmp_path, shard_size=shard_size))
    assert read_pairs(tmp_path).equals(read_pairs(finished))


def test_two_workers_write_the_same_bytes(job, finished, tmp_path, monkeypatch):
    monkeypatch.setenv("MASKCLIP_CACHE", str(tmp_path / "cache"))  # nor on what others encoded
    self_label(changed(job, tmp_path / "out", how={"workers": 2}))
    here, there = files(finished), files(tmp_path / "out")
    assert set(here) == set(there)
    for name in here:
        if not name.startswith("pairs.") and name != "run.json":  # these tell the folder, the code
            assert here[name] == there[name], name


def test_another_batch_size_changes_hardly_a_score(job, finished, tmp_path):
    self_label(changed(job, tmp_path, batch_size=2))
    one, other = read_pairs(finished), read_pairs(tmp_path)
    same = ["image", "noun", "caption_id", "proposal", "mask", "area", "box_xyxy"]
    assert one.select(same).equals(other.select(same))
    for name in ("score", "probability"):
        assert one[name].to_pylist() == pytest.approx(other[name].to_pylist(), abs=1e-5)


def test_a_run_that_was_stopped_goes_on(job, finished, tmp_path, monkeypatch):
    stopped = changed(job, tmp_path)
    store = running.LabelFolder.store

    def stop_at_the_second(folder, shard) -> None:
        if shard.index == 1:
            raise KeyboardInterrupt
        store(folder, shard)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(running.LabelFolder, "store", stop_at_the_second)
        self_label(stopped)
    assert len(list(tmp_path.glob("*.parquet"))) == 1
    assert not (tmp_path / "summary.json").exists()
    first = (tmp_path / "pairs-00000.parquet").stat().st_mtime_ns
    self_label(stopped)
    assert read_pairs(tmp_path).equals(read_pairs(finished))
    assert (tmp_path / "pairs-00000.parquet").stat().st_mtime_ns == first
    assert (tmp_path / "manifest.jsonl").read_bytes() == (finished / "manifest.jsonl").read_bytes()


def test_a_finished_run_is_left_alone(job, finished):
    before = {path: path.stat().st_mtime_ns for path in finished.glob("pairs*")}
    summary = self_label(job)
    assert summary == json.loads((finished / "summary.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in finished.glob("pairs*")} == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"match": MatchConfig(top_k=1)}, "match.top_k was 2, is 1"),
        ({"captions_per_image": "1"}, 'captions_per_image was "all", is "1"'),
        ({"overrides": ("segmentor.mask_threshold=0.4",)}, "mask_threshold was 0.5, is 0.4"),
        ({"shard_size": 5}, "shard_size was 4, is 5"),
        ({"batch_size": 5}, "segmentor.clip_batch_size was 0, is 5"),
    ],
)
def test_other_settings_are_refused(job, finished, config, message):
    before = files(finished)
    with pytest.raises(ValueError, match=message):
        self_label(changed(job, finished, **config))
    assert files(finished) == before


@pytest.mark.usefixtures("finished")
def test_other_captions_are_refused(job, tmp_path):
    other = tmp_path / "captions.jsonl"
    other.write_text(job.captions.read_text().replace("red ball", "blue ball"))
    with pytest.raises(ValueError, match="captions_sha256 was"):
        self_label(replace(job, captions=other))
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(job.captions.read_bytes())
    assert self_label(replace(job, captions=moved))["images"] == COUNT  # the same, elsewhere


def test_only_the_first_captions(job, tmp_path):
    self_label(changed(job, tmp_path, captions_per_image="1"))
    ids = set(read_pairs(tmp_path)["caption_id"].to_pylist())
    assert ids and all(each.endswith("#0") for each in ids)


def test_captions_without_photos_are_no_run(job, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="none of the photos that .* names"):
        self_label(replace(job, images=tmp_path / "empty", output=tmp_path / "out"))
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        self_label(replace(job, images=tmp_path / "nowhere", output=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_no_captions_no_pairs(job, tmp_path):
    (tmp_path / "captions.jsonl").write_text("")
    summary = self_label(
        replace(job, captions=tmp_path / "captions.jsonl", output=tmp_path / "out")
    )
    assert (summary["images"], summary["pairs"]) == (0, 0)
    assert read_pairs(tmp_path / "out").num_rows == 0


def test_a_finished_run_is_exported(finished, tmp_path):
    content = json.loads(export_finished(finished, "coco").read_text())
    assert len(content["annotations"]) == read_pairs(finished).num_rows
    with pytest.raises(ValueError, match="holds no finished run"):
        export_finished(tmp_path, "coco")


@pytest.mark.parametrize(
    ("device", "workers", "devices"),
    [("cpu", 3, ["cpu"] * 3), ("cpu", 1, ["cpu"])],
)
def test_each_worker_has_a_device(device, workers, devices):
    assert choose_devices(device, workers, 1) == devices


def test_more_threads_for_each_leave_fewer_workers():
    assert len(choose_devices("cpu", None, 1)) >= len(choose_devices("cpu", None, 2)) >= 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"shard_size": 0}, "shard_size must be at least 1"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"captions_per_image": "0"}, "captions_per_image must be all, or 1 or more, got '0'"),
        ({"captions_per_image": "some"}, "captions_per_image must be"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        LabelConfig(**wrong)
    with pytest.raises(ValueError, match="workers must be at least 1"):
        Job(Path(), Path(), Path(), workers=0)
    with pytest.raises(ValueError, match="engine must be local or ray"):
        Job(Path(), Path(), Path(), engine="spark")
