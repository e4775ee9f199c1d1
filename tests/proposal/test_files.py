"""Ready masks from PNGs."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from proposal.files import FilesProposer

IMAGE = np.zeros((4, 6, 3), dtype=np.uint8)


def save(path, values, mode=None):
    picture = Image.fromarray(values)
    if mode == "P":
        picture = Image.fromarray(values, "L").convert("P")
        picture.putdata(values.ravel().tolist())
    picture.save(path)


@pytest.mark.parametrize(
    ("values", "mode"),
    [
        (np.array([[0, 0, 5], [9, 9, 5]], dtype=np.uint8), None),
        (np.array([[0, 0, 500], [900, 900, 500]], dtype=np.uint16), None),
        (np.array([[0, 0, 5], [9, 9, 5]], dtype=np.uint8), "P"),
    ],
)
def test_each_value_but_zero_is_a_region(tmp_path, values, mode):
    save(tmp_path / "a.png", values, mode)
    (proposals,) = FilesProposer(tmp_path).propose_batch([IMAGE], ["a"])
    assert proposals.mask_probs.tolist() == [[[0, 0, 1], [0, 0, 1]], [[0, 0, 0], [1, 1, 0]]]
    assert proposals.scores.tolist() == [1, 1]


def test_a_map_of_zeros_has_no_regions(tmp_path):
    save(tmp_path / "a.png", np.zeros((4, 6), dtype=np.uint8))
    (proposals,) = FilesProposer(tmp_path).propose_batch([IMAGE], ["a"])
    assert proposals.mask_probs.shape == (0, 4, 6)


def test_what_does_not_fit_is_refused(tmp_path):
    proposer = FilesProposer(tmp_path)
    with pytest.raises(ValueError, match="must know the file name"):
        proposer.propose(IMAGE)
    with pytest.raises(ValueError, match="must know the file name"):
        proposer.propose_batch([IMAGE], [None])
    with pytest.raises(FileNotFoundError, match="no region PNG"):
        proposer.propose_batch([IMAGE], ["absent"])
    save(tmp_path / "tall.png", np.zeros((60, 40), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"shape of its photo \(4, 6\), got \(60, 40\)"):
        proposer.propose_batch([IMAGE], ["tall"])
    save(tmp_path / "colour.png", np.zeros((4, 6, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="got 3 channels"):
        proposer.propose_batch([IMAGE], ["colour"])
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    with pytest.raises(OSError, match="cannot read the region PNG"):
        proposer.propose_batch([IMAGE], ["cut"])
    with pytest.raises(FileNotFoundError, match="found no"):
        FilesProposer(tmp_path / "absent")
