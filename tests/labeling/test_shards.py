"""Photos cut into shards; a shard labelled."""

import io
import json
import runpy
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from labeling.captions import read_captions
from labeling.label_config import LabelConfig
from labeling.shards import AHEAD, Shard, ShardNotes, cut, label_shard, read_ahead

CAPTIONED = runpy.run_path(str(Path(__file__).with_name("captioned.py")))


@pytest.fixture(scope="module")
def labeler(tiny_checkpoint):
    config = LabelConfig(str(tiny_checkpoint))
    return config.build_labeler(config.load_segmentor("cpu"))


@pytest.mark.parametrize(
    ("count", "size", "sizes"), [(0, 3, []), (2, 3, [2]), (3, 3, [3]), (7, 3, [3, 3, 1])]
)
def test_every_photo_is_in_one_shard(count, size, sizes):
    shards = list(cut(list(range(count)), size))
    assert [len(shard.entries) for shard in shards] == sizes
    assert [shard.index for shard in shards] == list(range(len(sizes)))
    assert [entry for shard in shards for entry in shard.entries] == list(range(count))


def test_a_shard_counts_and_skips(labeler, tmp_path):
    images, captions = CAPTIONED["write_captioned"](tmp_path, 6)
    (images / "001.png").write_bytes(b"\x89PNG broken")
    (images / "004.png").unlink()
    told = []
    shard = Shard(3, tuple(read_captions(captions)))
    done = label_shard(labeler, images, shard, lambda *more: told.append(more))
    table = pq.read_table(io.BytesIO(done.content))
    assert done.index == 3
    assert {"001.png", "004.png"}.isdisjoint(table["image"].to_pylist())
    assert [(one.image, one.image_id) for one in done.notes.skipped] == [
        ("001.png", "001"),
        ("004.png", "004"),
    ]
    # Relative paths: the same words wherever the photos lie
    assert done.notes.skipped[1].reason == "there is no photo 004.png: check the path"
    assert str(images) not in done.notes.skipped[0].reason
    assert (done.notes.images, done.notes.captions) == (6, 12)
    # Photo by photo, skipped ones included: 2 + 2 + 3 + 3 + 0 + 2 nouns of the first captions …
    assert done.notes.nouns == sum(map(len, map(nouns_of, range(6))))
    assert done.notes.pairs == table.num_rows == sum(pairs for _, pairs in told)
    assert len(told) == 6


def nouns_of(index: int) -> set[str]:
    nouns = [{"dog", "ball"}, {"cat", "sofa"}, {"man", "hat", "bicycle"}]
    nouns += [{"dog", "cat", "bird"}, set()]
    return nouns[index % 5] | nouns[(index + 3) % 5]


def test_a_shard_of_nothing_is_an_empty_table(labeler, tmp_path):
    done = label_shard(labeler, tmp_path, Shard(0, ()), print)
    assert pq.read_table(io.BytesIO(done.content)).num_rows == 0
    assert done.notes == ShardNotes(0, 0, 0, 0, ())


def test_the_same_shard_gives_the_same_bytes(labeler, tmp_path):
    images, captions = CAPTIONED["write_captioned"](tmp_path, 3)
    shard = Shard(0, tuple(read_captions(captions)))
    first, second = (label_shard(labeler, images, shard, lambda *_: None) for _ in range(2))
    assert first == second


def test_notes_are_in_the_file(labeler, tmp_path):
    images, captions = CAPTIONED["write_captioned"](tmp_path, 2)
    (images / "000.png").unlink()
    shard = Shard(0, tuple(read_captions(captions)))
    done = label_shard(labeler, images, shard, lambda *_: None)
    (tmp_path / "x.parquet").write_bytes(done.content)
    assert ShardNotes.read(tmp_path / "x.parquet") == done.notes
    assert ShardNotes.from_dict(json.loads(json.dumps(asdict(done.notes)))) == done.notes


def test_photos_are_read_in_order_and_only_a_few_ahead(tmp_path):
    images, _ = CAPTIONED["write_captioned"](tmp_path, 3)
    paths = [images / "000.png", tmp_path / "none.png", images / "001.png", images / "002.png"]
    given = []

    def give():
        for path in paths * 25:
            given.append(path)
            yield path

    photos = read_ahead(give())
    assert next(photos).result().shape == (30, 40, 3)
    assert len(given) == AHEAD + 1
    with pytest.raises(FileNotFoundError):
        next(photos).result()
    rest = [photo.result() for index, photo in enumerate(photos) if index % 4 != 3]
    assert len(rest) == 74
    np.testing.assert_array_equal(rest[0], rest[3])
