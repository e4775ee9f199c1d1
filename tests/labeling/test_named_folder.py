"""Photos with label PNGs, as stage 1 reads them."""

import json

import numpy as np
import pytest
from PIL import Image

from labeling.named_folder import NamedFolder
from proposal.data.label_maps import read_label_maps
from proposal.data.vocabulary import read_names


def mask(*columns: int) -> np.ndarray:
    found = np.zeros((3, 4), dtype=bool)
    found[:, list(columns)] = True
    return found


def test_stage_1_reads_what_is_written(tmp_path):
    for name in ("a", "b", "c"):
        Image.new("RGB", (4, 3)).save(tmp_path / f"{name}.jpg")
    folder = NamedFolder(tmp_path / "set")
    folder.add(tmp_path / "a.jpg", [("sky", mask(0, 1)), ("cat", mask(1))])  # the cat lies on top
    folder.add(tmp_path / "b.jpg", [])  # nothing to learn there
    folder.add(tmp_path / "c.jpg", [("cat", mask(3)), ("cat", mask(0))])
    assert folder.close({"x": 1}) == {"maps": 2, "names": 2}
    assert json.loads((tmp_path / "set" / "run.json").read_text())["config"] == {"x": 1}
    names = read_names(tmp_path / "set" / "names.txt")
    assert names == ("sky", "cat")
    first, second = read_label_maps(tmp_path / "set" / "labels", tmp_path / "set" / "images", names)
    found = first.annotation()
    assert found.categories.tolist() == [0, 1]
    np.testing.assert_array_equal(found.masks, [mask(0), mask(1)])
    np.testing.assert_array_equal(found.ignored, mask(2, 3))
    np.testing.assert_array_equal(second.annotation().masks, [mask(0, 3)])
    assert Image.open(first.path).size == (4, 3)


def test_a_map_holds_no_more_names_than_it_can(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "a.jpg")
    folder = NamedFolder(tmp_path / "set")
    names = [(str(number), mask(0)) for number in range(256)]
    folder.add(tmp_path / "a.jpg", names[:255])
    with pytest.raises(ValueError, match="can hold 255 names, got one more: '255'"):
        folder.add(tmp_path / "a.jpg", names)
