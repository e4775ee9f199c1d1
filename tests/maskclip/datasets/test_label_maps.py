"""Label files of every kind, by hand."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from maskclip.datasets.label_maps import (
    ColourDecoder,
    InstanceDecoder,
    TableDecoder,
    ade_ids,
    listed_values,
    look_up,
    paint_labels,
)


def save(path, values, kind=np.uint8):
    Image.fromarray(np.asarray(values, dtype=kind)).save(path)
    return path


def test_a_table_of_values(tmp_path):
    decoder = TableDecoder({0: 255, 7: 0, 11: 1}, 255)
    path = save(tmp_path / "x.png", [[0, 7], [11, 7]])
    assert decoder.decode(path).tolist() == [[255, 0], [1, 0]]
    with pytest.raises(ValueError, match=r"x.png holds the values 8, 9, expected 7 to 11"):
        decoder.decode(save(path, [[0, 8], [9, 7]]))


def test_maps_of_pascal_context(tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "x.mat", {"LabelMap": np.array([[0, 459], [2, 2]], dtype=np.uint16)})
    table = {0: 65535} | {value: value - 1 for value in range(1, 460)}
    decoder = TableDecoder(table, 65535)
    assert decoder.decode(tmp_path / "x.mat").tolist() == [[65535, 458], [1, 1]]
    savemat(tmp_path / "y.mat", {"other": 1})
    with pytest.raises(ValueError, match="y.mat holds no LabelMap"):
        decoder.decode(tmp_path / "y.mat")


def test_ids_of_the_full_ade20k(tmp_path):
    """2978 = 110 // 10 * 256 + 162 is R 110 to 119, G 162; B does not count."""
    path = save(tmp_path / "x.png", [[[115, 162, 3], [0, 5, 0], [0, 0, 0]]])
    decoder = ColourDecoder("ade_full", {2978: 0, 5: 846}, 65535)
    assert decoder.decode(path, None).tolist() == [[0, 846, 65535]]


def test_segments_of_coco_panoptic(tmp_path):
    path = save(tmp_path / "x.png", [[[1, 2, 1], [0, 0, 0]]])
    decoder = ColourDecoder("panoptic", {}, 255)
    number = 1 + 2 * 256 + 65536
    assert decoder.decode(path, {number: 132}).tolist() == [[132, 255]]
    with pytest.raises(ValueError, match=f"x.png holds segment {number}, which its annotations"):
        decoder.decode(path, {5: 1})
    with pytest.raises(ValueError, match="must be an RGB picture of ids"):
        decoder.decode(save(path, [[1, 2]]), {})


def test_names_of_the_full_ade20k(tmp_path):
    things = [
        {"name": "car,  Auto", "name_ndx": 401},
        {"name": "dragon", "name_ndx": 9},
        {"name": "sky", "name_ndx": 2420},
    ]
    (tmp_path / "x.json").write_text(json.dumps({"annotation": {"object": things}}))
    names = ["sky", "car, auto"]
    assert ade_ids([tmp_path / "x.json"], names) == {401: 1, 2420: 0}
    with pytest.raises(FileNotFoundError, match="y.json, which names what the photo shows"):
        ade_ids([tmp_path / "y.json"], names)
    (tmp_path / "z.json").write_text("[]")
    with pytest.raises(ValueError, match="z.json is no annotation of the full ADE20K"):
        ade_ids([tmp_path / "z.json"], names)


def test_a_list_of_values_with_other_spellings(tmp_path):
    (tmp_path / "59.txt").write_text("0: empty\n1: aeroplane\n2: diningtable\n3: clothes\n")
    assert listed_values(tmp_path / "59.txt", ["table", "cloth", "aeroplane"]) == {1: 2, 2: 0, 3: 1}
    with pytest.raises(ValueError, match="it lacks wood"):
        listed_values(tmp_path / "59.txt", ["aeroplane", "wood"])


def columns(first, last):
    mask = np.zeros((2, 8), dtype=bool)
    mask[:, first:last] = True
    return mask


def test_small_masks_lie_on_top():
    painted = paint_labels([columns(2, 3), columns(0, 5), columns(4, 6)], [7, 1, 255], (2, 8), 255)
    assert painted[0].tolist() == [1, 1, 7, 1, 255, 255, 255, 255]
    assert paint_labels([], [], (1, 2), 65535).tolist() == [[65535, 65535]]


def test_instances_are_painted_without_crowds_and_lines():
    rle = coco_mask.encode(np.asfortranarray(columns(4, 8).astype(np.uint8)))
    annotations = [
        {"category_id": 3, "segmentation": [[0, 0, 3, 0, 3, 2, 0, 2]]},
        {"category_id": 9, "segmentation": [[1, 1, 2, 2]]},
        {"category_id": 3, "segmentation": rle, "iscrowd": 1},
    ]
    decoder = InstanceDecoder({3: 0, 9: 1}, 255)
    labels = decoder.decode(None, {"size_hw": (2, 8), "annotations": annotations})
    assert labels[0].tolist() == [0, 0, 0] + [255] * 5


def test_values_without_an_entry_are_ignored():
    assert look_up(np.array([[1, 2], [3, 1]]), {1: 5}, 255).tolist() == [[5, 255], [255, 5]]
