import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from maskclip.pairs import (
    PAIR_SCHEMA,
    Pair,
    decode_mask,
    images_root,
    mask_box,
    read_pairs,
    write_pairs,
    write_pairs_folder,
)


def a_mask() -> np.ndarray:
    mask = np.zeros((5, 7), dtype=bool)
    mask[1:3, 2:6] = True
    mask[1, 2] = False
    return mask


def a_pair(noun: str = "cat", image: str = "a/b.jpg") -> Pair:
    return Pair.from_mask(a_mask(), image=image, noun=noun, proposal=4, score=0.25)


def test_a_pair_says_what_its_mask_is():
    pair = a_pair()
    assert (pair.height, pair.width, pair.area, pair.box_xyxy) == (5, 7, 7, (2, 1, 6, 3))
    assert (pair.image_id, pair.caption, pair.probability) == ("b", "", 1.0)


@pytest.mark.parametrize(
    ("pixels", "box"),
    [([(0, 0)], (0, 0, 1, 1)), ([(4, 6)], (6, 4, 7, 5)), ([(0, 3), (4, 1)], (1, 0, 4, 5))],
)
def test_boxes_are_exclusive(pixels, box):
    mask = np.zeros((5, 7), dtype=bool)
    for place in pixels:
        mask[place] = True
    assert mask_box(mask) == box


@pytest.mark.parametrize("mask", [np.zeros((3, 3), dtype=bool), np.ones((1, 3, 3), dtype=bool)])
def test_a_mask_without_pixels_is_no_pair(mask):
    with pytest.raises(ValueError, match="at least one pixel"):
        Pair.from_mask(mask, image="x.jpg", noun="cat")


@pytest.mark.parametrize("count", [0, 1, 5])
def test_what_is_written_is_read(tmp_path, count):
    rows = [a_pair(f"noun {index}") for index in range(count)]
    summary = write_pairs_folder(tmp_path, rows, images=tmp_path, config={"a": 1}, shard_size=2)
    table = read_pairs(tmp_path)
    assert table.schema == PAIR_SCHEMA
    assert table["noun"].to_pylist() == [f"noun {index}" for index in range(count)]
    assert (summary["pairs"], summary["images"]) == (count, min(count, 1))
    assert len(list(tmp_path.glob("pairs-*.parquet"))) == max(1, (count + 1) // 2)
    assert not list(tmp_path.glob(".*"))
    for row in table.to_pylist():
        np.testing.assert_array_equal(decode_mask(row), a_mask())
        assert row["box_xyxy"] == [2, 1, 6, 3]
        assert row["score"] == 0.25


def test_masks_are_cocos_compressed_rle():
    # 3 columns of 2, all inside: a run of 0 pixels outside, then 6 inside.
    assert Pair.from_mask(np.ones((2, 3), dtype=bool), image="x", noun="x").mask == b"06"


def test_a_folder_made_again_keeps_no_old_shard(tmp_path):
    write_pairs_folder(tmp_path, [a_pair()] * 4, images=".", config={}, shard_size=1)
    write_pairs_folder(tmp_path, [a_pair("dog")], images=".", config={}, shard_size=1)
    assert read_pairs(tmp_path)["noun"].to_pylist() == ["dog"]


def test_equal_rows_are_equal_bytes(tmp_path):
    first = write_pairs(tmp_path / "a", 0, [a_pair()]).read_bytes()
    assert write_pairs(tmp_path / "b", 0, [a_pair()]).read_bytes() == first


def test_run_json_names_the_images_root(tmp_path):
    write_pairs_folder(tmp_path / "set", [a_pair()], images=tmp_path / "photos", config={"x": 2})
    assert images_root(tmp_path / "set") == tmp_path / "photos"
    assert json.loads((tmp_path / "set" / "run.json").read_text())["config"] == {"x": 2}


def test_a_folder_without_pairs_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="pairs-00000"):
        read_pairs(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"run\.json"):
        images_root(tmp_path)


def test_damaged_shards_are_refused(tmp_path):
    (tmp_path / "pairs-00000.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(ValueError, match="not a readable Parquet file"):
        read_pairs(tmp_path)
    pq.write_table(pa.table({"image": ["x"]}), tmp_path / "pairs-00000.parquet")
    with pytest.raises(ValueError, match="it lacks .*noun"):
        read_pairs(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="'images'"):
        images_root(tmp_path)
