"""Proposals get the names of the pixels that they cover."""

import shutil
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from labeling import proposal_pairs
from labeling.named_folder import NamedFolder
from labeling.proposal_pairs import NamingConfig, is_named, name_proposals, purest
from maskclip.pairs import decode_mask, images_root, read_pairs
from maskclip.segmentor_config import SegmentorConfig
from proposal.proposals import Proposals

SIZE_HW = (20, 40)


def box(left: int, right: int) -> np.ndarray:
    """The columns from left to right."""
    found = np.zeros(SIZE_HW, dtype=bool)
    found[:, left:right] = True
    return found


class Columns:
    """Proposes the same columns of every photo, at half its size."""

    def __init__(self, *spans: tuple[int, int], scores: list[float]) -> None:
        self.spans = spans
        self.scores = scores

    def propose(self, image):
        assert image.shape == (*SIZE_HW, 3)
        probs = torch.zeros(len(self.spans), SIZE_HW[0] // 2, SIZE_HW[1] // 2)
        for mask, (left, right) in zip(probs, self.spans, strict=True):
            mask[:, left // 2 : right // 2] = 1
        return Proposals(probs, torch.tensor(self.scores))


def segmentor(*spans, scores=None):
    proposer = Columns(*spans, scores=scores or [0.9] * len(spans))
    return SimpleNamespace(proposer=proposer, config=SegmentorConfig())


@pytest.fixture
def named(tmp_path):
    """One photo: sky at the left, a cat in the middle, the right nameless."""
    Image.new("RGB", SIZE_HW[::-1]).save(tmp_path / "a.jpg")
    folder = NamedFolder(tmp_path / "named")
    folder.add(tmp_path / "a.jpg", [("sky", box(0, 20)), ("cat", box(16, 28))])
    folder.close({})
    return tmp_path / "named"


def test_a_proposal_is_named_by_most_of_its_pixels(named, tmp_path):
    spans = (0, 14), (16, 30), (10, 22), (30, 40), (20, 28)
    summary = name_proposals(segmentor(*spans), named, tmp_path / "out", NamingConfig())
    rows = {row["proposal"]: row for row in read_pairs(tmp_path / "out").to_pylist()}
    assert {place: row["noun"] for place, row in rows.items()} == {0: "sky", 1: "cat", 4: "cat"}
    assert summary["pairs_per_noun"] == {"cat": 2, "sky": 1}
    assert rows[1]["score"] == pytest.approx(0.9)
    assert rows[1]["probability"] == pytest.approx(12 / 14, abs=0.04)  # its right edge is nameless
    assert rows[4]["probability"] == 1
    np.testing.assert_array_equal(decode_mask(rows[4]), box(20, 28))
    assert (images_root(tmp_path / "out") / rows[0]["image"]).is_file()


def test_what_is_too_small_unlikely_or_a_duplicate_is_left_out(named, tmp_path):
    spans = (0, 14), (0, 14), (16, 28), (16, 18)
    some = segmentor(*spans, scores=[0.5, 0.8, 0.04, 0.9])
    name_proposals(some, named, tmp_path / "out", NamingConfig(min_area=0.06))
    rows = read_pairs(tmp_path / "out").to_pylist()
    assert [row["proposal"] for row in rows] == [1]


def test_nothing_found_is_an_empty_folder(named, tmp_path):
    summary = name_proposals(segmentor((30, 40)), named, tmp_path / "out", NamingConfig())
    assert summary["pairs"] == 0
    assert read_pairs(tmp_path / "out").num_rows == 0


def test_a_stopped_run_goes_on(named, tmp_path, monkeypatch):
    monkeypatch.setattr(proposal_pairs, "SHARD_PHOTOS", 1)
    for copy in "bc":
        Image.new("RGB", SIZE_HW[::-1]).save(named / "images" / f"{copy}.jpg")
        shutil.copy(named / "labels" / "a.png", named / "labels" / f"{copy}.png")
    some, seen, config = segmentor((16, 28)), [], NamingConfig()
    propose = some.proposer.propose

    def stopping(image):
        seen.append(1)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return propose(image)

    some.proposer.propose = stopping
    with pytest.raises(KeyboardInterrupt):
        name_proposals(some, named, tmp_path / "out", config)
    assert not is_named(tmp_path / "out", asdict(config))
    assert read_pairs(tmp_path / "out")["image"].to_pylist() == ["a.jpg"]
    assert name_proposals(some, named, tmp_path / "out", config)["pairs"] == 3
    assert len(seen) == 4  # the first photo was not looked at again
    assert read_pairs(tmp_path / "out")["image"].to_pylist() == ["a.jpg", "b.jpg", "c.jpg"]
    assert is_named(tmp_path / "out", asdict(config))
    (named / "labels" / "c.png").unlink()
    with pytest.raises(ValueError, match="maps was 3, is 2; give another --output"):
        name_proposals(some, named, tmp_path / "out", config)


def test_unlabelled_pixels_count_against_a_name():
    labels = np.array([[3, 3, 255, 255], [3, 7, 255, 255]], dtype=np.uint8)
    assert purest(labels >= 0, labels) == (3, 3 / 8)
    assert purest(labels == 255, labels) == (None, 0.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"min_purity": 0.5}, "min_purity must be above 0.5, at most 1, got 0.5"),
        ({"min_objectness": 2}, r"min_objectness must be in \[0, 1\], got 2"),
        ({"duplicate_iou": -1}, r"duplicate_iou must be in \[0, 1\], got -1"),
    ],
)
def test_impossible_settings_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        NamingConfig(**values)


def test_folders_that_do_not_fit_are_refused(named, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"with images/, labels/ and names\.txt"):
        name_proposals(segmentor(), tmp_path, tmp_path / "out", NamingConfig())
    Image.new("L", (3, 3)).save(named / "labels" / "a.png")
    with pytest.raises(ValueError, match=r"must be \(20, 40\) like its photo, got \(3, 3\)"):
        name_proposals(segmentor((0, 4)), named, tmp_path / "out", NamingConfig())
    Image.new("L", (3, 3)).save(named / "labels" / "z.png")
    (named / "labels" / "a.png").unlink()  # found before any map is read
    with pytest.raises(ValueError, match=r"has no photo z\.jpg or \.png"):
        name_proposals(segmentor((0, 4)), named, tmp_path / "out", NamingConfig())
    (named / "labels" / "z.png").unlink()
    Image.new("L", SIZE_HW[::-1], 2).save(named / "labels" / "a.png")
    with pytest.raises(ValueError, match=r"a\.png must hold labels from 0 to 1 .* or 255, got 2"):
        name_proposals(segmentor((0, 4)), named, tmp_path / "out", NamingConfig())
    (named / "labels" / "a.png").write_bytes(b"no picture")
    with pytest.raises(OSError, match=r"cannot read the region PNG .*a\.png"):
        name_proposals(segmentor((0, 4)), named, tmp_path / "out", NamingConfig())
    assert not (tmp_path / "out").exists()
