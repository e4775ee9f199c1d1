"""COCO instances as masks."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools import mask as rle

from proposal.data.coco import decode_segmentation, read_coco


def test_polygons_and_both_kinds_of_rle():
    square = np.zeros((6, 8), dtype=bool)
    square[1:4, 2:6] = True
    compressed = rle.encode(np.asfortranarray(square.astype(np.uint8)))
    runs = np.diff(np.flatnonzero(np.diff(np.r_[2, square.T.ravel(), 2])))
    plain = {"size": [6, 8], "counts": runs.tolist()}  # the first run is of zeros
    text = {"size": [6, 8], "counts": compressed["counts"].decode()}
    polygon = [[2, 1, 6, 1, 6, 4, 2, 4]]
    for segmentation in (compressed, plain, text, polygon):
        assert (decode_segmentation(segmentation, (6, 8)) == square).all()


def test_crowds_are_apart_and_photos_without_objects_stay(tmp_path):
    box = [[0, 0, 2, 0, 2, 2, 0, 2]]
    content = {
        "images": [
            {"id": 7, "file_name": "b.jpg", "height": 4, "width": 5},
            {"id": 3, "file_name": "a.jpg", "height": 4, "width": 5},
        ],
        "annotations": [
            {"image_id": 7, "segmentation": box, "area": 4, "iscrowd": 0},
            {"image_id": 7, "segmentation": {"size": [4, 5], "counts": [0, 20]}, "iscrowd": 1},
        ],
    }
    (tmp_path / "i.json").write_text(json.dumps(content))
    first, second = read_coco(tmp_path / "i.json", tmp_path)
    assert (first.stem, first.masks().sum(), first.areas().tolist()) == ("b", 4, [4.0])
    assert first.crowds().sum() == 20
    assert second.masks().shape == second.crowds().shape == (0, 4, 5)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"images": [{}], "annotations": []}'])
def test_files_of_another_kind_are_refused(tmp_path, text):
    (tmp_path / "i.json").write_text(text)
    with pytest.raises(ValueError, match="no COCO instances JSON"):
        read_coco(tmp_path / "i.json", tmp_path)


def test_missing_places_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no COCO instances file"):
        read_coco(tmp_path / "i.json", tmp_path)
    (tmp_path / "i.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="no folder of photos"):
        read_coco(tmp_path / "i.json", tmp_path / "absent")
