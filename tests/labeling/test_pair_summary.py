import json

import pytest

from labeling.pair_stream import count_rows, shard_paths, stream_columns, stream_rows
from labeling.pair_summary import summarize_pairs, table, write_pair_summary
from maskclip.pairs import write_pairs


def test_the_summary_by_hand(pairs_folder):
    (pairs_folder / "skipped.jsonl").write_text('{"image": "x.jpg", "reason": "damaged"}\n')
    counts = {"images": 3, "captions": 9, "nouns": 4, "skipped": 1}
    summary = write_pair_summary(pairs_folder, counts)
    assert summary == json.loads((pairs_folder / "summary.json").read_text())
    assert {key: summary[key] for key in counts} == counts
    assert (summary["pairs"], summary["labeled_images"], summary["unique_nouns"]) == (3, 2, 2)
    assert summary["top_nouns"] == {"cat": 2, "sofa": 1}
    assert (summary["score"]["0"], summary["score"]["50"]) == (0.125, 0.25)
    assert summary["score"]["100"] == 0.5
    assert summary["score"]["25"] == 0.1875  # halfway between the two lowest
    assert summary["probability"]["50"] == 0.75
    assert summary["area"]["100"] == 1.0
    assert summary["area"]["0"] == pytest.approx(199 / 2400, abs=1e-6)
    assert summary["skipped_images"] == [{"image": "x.jpg", "reason": "damaged"}]
    shown = table(summary)
    assert "pairs                  3" in shown
    assert shown.endswith("cat 2, sofa 1")


def test_a_folder_without_pairs_has_a_summary(tmp_path):
    write_pairs(tmp_path, 0, [])
    summary = write_pair_summary(tmp_path, {"images": 1})
    assert (summary["pairs"], summary["unique_nouns"], summary["score"]) == (0, 0, {})
    assert "pairs                  0" in table(summary)


def test_equally_common_nouns_come_in_alphabetic_order(pairs_folder):
    shard = shard_paths(pairs_folder)[1]
    shard.unlink()
    assert list(summarize_pairs(pairs_folder)["top_nouns"]) == ["cat", "sofa"]


def test_rows_are_streamed_in_order(pairs_folder):
    rows = list(stream_rows(pairs_folder, ["noun", "proposal"]))
    assert rows == [
        {"noun": "cat", "proposal": 3},
        {"noun": "sofa", "proposal": 0},
        {"noun": "cat", "proposal": 1},
    ]
    assert count_rows(pairs_folder) == 3


def test_a_folder_without_shards_and_a_damaged_shard_are_told(pairs_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="pairs-00000.parquet"):
        count_rows(tmp_path)
    with pytest.raises(ValueError, match="lacks .'price'"):
        next(stream_columns(pairs_folder, ["price"]))
    (pairs_folder / "pairs-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="pairs-00001.parquet is no readable Parquet"):
        list(stream_columns(pairs_folder, ["noun"]))
