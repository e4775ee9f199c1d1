"""Shards that are done stay done; nothing else counts."""

import json
import resource
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from labeling.label_folder import LabelFolder, locked
from labeling.shards import LabeledShard, ShardNotes, Skipped
from maskclip.pairs import Pair, encode_pairs, read_pairs

CONFIG = {"match": {"top_k": 1, "min_score": 0.1}, "overrides": ("a.b=1",), "shard_size": 2}


def a_shard(index: int, skipped: tuple[str, ...] = ()) -> LabeledShard:
    pair = Pair("x.jpg", "x", 2, 3, f"noun {index}", (0, 0, 3, 2), 6, b"06")
    left_out = tuple(Skipped(name, name[:1], "damaged") for name in skipped)
    notes = ShardNotes(2 + len(skipped), 4, 1, 1, left_out)
    return LabeledShard(index, encode_pairs([pair], {"labeling": json.dumps(asdict(notes))}), notes)


def opened(path: Path, shards: int = 3, **changes) -> LabelFolder:
    path.mkdir(exist_ok=True)
    folder = LabelFolder(path, shards)
    folder.begin(path / "photos", CONFIG | changes)
    return folder


@pytest.fixture
def half(tmp_path) -> Path:
    """Shards 0 and 2 of three are done."""
    folder = opened(tmp_path / "out")
    folder.store(a_shard(2, ("b.jpg", "c.jpg")))
    folder.store(a_shard(0, ("a.jpg",)))
    return tmp_path / "out"


def manifest(path: Path) -> list[str]:
    return [json.loads(line)["file"] for line in (path / "manifest.jsonl").open()]


def skipped(path: Path) -> list[str]:
    return [json.loads(line)["image"] for line in (path / "skipped.jsonl").open()]


def test_what_is_done_is_not_missing(half):
    again = opened(half)
    missing = [index for index in range(3) if again.is_missing(a_shard(index))]
    assert missing == [1]
    assert manifest(half) == ["pairs-00000.parquet", "pairs-00002.parquet"]
    assert again.totals() == {"images": 7, "captions": 8, "nouns": 2, "pairs": 2, "skipped": 3}


def test_the_end_is_the_same_in_whatever_order(half, tmp_path):
    again = opened(half)
    again.store(a_shard(1))
    again.finish()
    straight = opened(tmp_path / "straight")
    for index, names in enumerate([("a.jpg",), (), ("b.jpg", "c.jpg")]):
        straight.store(a_shard(index, names))
    straight.finish()
    for name in ("manifest.jsonl", "skipped.jsonl", "pairs-00001.parquet", "pairs-00002.parquet"):
        assert (half / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
    assert read_pairs(half)["noun"].to_pylist() == ["noun 0", "noun 1", "noun 2"]
    assert skipped(half) == ["a.jpg", "b.jpg", "c.jpg"]


def lose_manifest(path: Path) -> None:
    (path / "manifest.jsonl").unlink()


def tear_manifest(path: Path) -> None:
    file = path / "manifest.jsonl"
    file.write_bytes(file.read_bytes()[:-30])


def leave_draft(path: Path) -> None:
    (path / ".0123.tmp").write_bytes(b"half of a sha")


def repeat_skipped(path: Path) -> None:
    file = path / "skipped.jsonl"
    file.write_bytes(2 * file.read_bytes() + b'{"image": "')


@pytest.mark.parametrize("kill", [lose_manifest, tear_manifest, leave_draft, repeat_skipped])
def test_whatever_a_kill_leaves_is_put_right(half, kill):
    kill(half)
    again = opened(half)
    assert sorted(again.done) == [0, 2]
    assert manifest(half) == ["pairs-00000.parquet", "pairs-00002.parquet"]
    assert skipped(half) == ["a.jpg", "b.jpg", "c.jpg"]
    assert not list(half.glob(".*.tmp"))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [cut_short, change_a_byte, Path.unlink])
def test_a_damaged_shard_is_made_again(half, damage, caplog):
    damage(half / "pairs-00002.parquet")
    again = opened(half)
    assert sorted(again.done) == [0]
    assert not (half / "pairs-00002.parquet").exists()
    assert ("damaged" in caplog.text) == (damage is not Path.unlink)


def test_a_run_taken_up_is_not_complete(half):
    (half / "summary.json").write_text("{}")
    opened(half)
    assert not (half / "summary.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shard_size": 3}, "shard_size was 2, is 3"),
        ({"match": {"top_k": 2, "min_score": 0.1}}, r"match.top_k was 1, is 2"),
        ({"overrides": ()}, r'overrides was \["a.b=1"\], is \[\]'),
        ({"more": 1}, "more was null, is 1"),
    ],
)
def test_other_settings_are_refused(half, changes, message):
    before = {path.name: path.read_bytes() for path in half.iterdir()}
    with pytest.raises(ValueError, match=f"with other settings or inputs: {message}; give another"):
        opened(half, **changes)
    assert {path.name: path.read_bytes() for path in half.iterdir()} == before


def test_other_photos_are_refused(half):
    with pytest.raises(ValueError, match="images was .*photos.*, is .*elsewhere"):
        LabelFolder(half, 3).begin(half / "elsewhere", CONFIG)


def test_strange_folders_are_refused(half):
    (half / "pairs-00007.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="pairs-00007.parquet is not one of this run's 3 shards"):
        opened(half)
    (half / "run.json").write_text("{")
    with pytest.raises(ValueError, match="run.json is damaged"):
        opened(half)
    (half / "run.json").unlink()
    with pytest.raises(ValueError, match=r"pairs-00000.parquet but no run\.json"):
        opened(half)


@contextmanager
def little_room(limit: int):
    """Files may not grow beyond ``limit`` bytes: writing fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_and_leaves_no_half_shard(half):
    folder = opened(half)
    before = {path.name: path.read_bytes() for path in half.iterdir()}
    with little_room(1000), pytest.raises(OSError, match="cannot write .*pairs-00001") as told:
        folder.store(a_shard(1))
    assert "2 of 3 shards are done; make room and run the same command again" in str(told.value)
    assert {path.name: path.read_bytes() for path in half.iterdir()} == before
    assert folder.is_missing(a_shard(1))
    folder.store(a_shard(1))
    assert len(read_pairs(half)) == 3


HOLD = """
import sys, time
from pathlib import Path
from labeling.label_folder import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_two_runs_do_not_write_into_one_folder(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(OSError, match="another run is writing into"), locked(tmp_path):
            pass
        other.kill()
    with locked(tmp_path):
        pass  # a lock ends with its process, however that ended
