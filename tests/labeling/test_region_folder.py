import json

import numpy as np
from PIL import Image

from labeling.region_folder import RegionFolder
from proposal.data.regions import read_regions


def test_stage_1_reads_what_is_written(tmp_path):
    for name in ("a", "b"):
        Image.new("RGB", (4, 3)).save(tmp_path / f"{name}.jpg")
    painted = np.zeros((3, 4), dtype=np.uint8)
    painted[0, :2] = 3
    painted[2] = 9
    folder = RegionFolder(tmp_path / "set")
    folder.add(tmp_path / "a.jpg", painted)
    folder.add(tmp_path / "a.jpg", painted == 9, stem="a_second")
    folder.add(tmp_path / "b.jpg", np.zeros((3, 4), dtype=np.uint8))  # nothing to learn there
    assert folder.close({"x": 1}) == {"maps": 2, "regions": 3}
    assert json.loads((tmp_path / "set" / "run.json").read_text())["config"] == {"x": 1}

    first, second = read_regions(tmp_path / "set" / "regions", tmp_path / "set" / "images")
    assert first.path == second.path == tmp_path / "set" / "images" / "a.jpg"
    np.testing.assert_array_equal(first.masks(), [painted == 3, painted == 9])
    assert Image.open(first.path).size == (4, 3)


def test_a_folder_made_again_is_empty_at_first(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "a.jpg")
    folder = RegionFolder(tmp_path / "set")
    folder.add(tmp_path / "a.jpg", np.ones((3, 4), dtype=np.uint8))
    folder.close({})
    RegionFolder(tmp_path / "set")
    assert [path.name for path in (tmp_path / "set").rglob("*.*")] == ["run.json"]
