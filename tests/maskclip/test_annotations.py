import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from maskclip.annotations import (
    coco_names,
    coco_pairs,
    coco_photos,
    photo_key,
    read_photo_list,
)
from maskclip.pairs import decode_mask
from proposal.data.coco import decode_segmentation

SQUARE = [1, 1, 3, 1, 3, 3, 1, 3]  # pixels 1 and 2 of both axes


@pytest.fixture
def instances(tmp_path):
    def annotation(image_id, category_id, **more):
        return {"image_id": image_id, "category_id": category_id, **more}

    whole = {"size": [4, 6], "counts": [0, 24]}
    content = {
        "images": [
            {"id": 7, "file_name": "000000000007.jpg", "height": 4, "width": 6},
            {"id": 8, "file_name": "000000000008.jpg", "height": 4, "width": 6},
            {"id": 9, "file_name": "000000000009.jpg", "height": 4, "width": 6},
        ],
        "categories": [{"id": 3, "name": "tie"}, {"id": 1, "name": "person"}],
        "annotations": [
            annotation(7, 1, segmentation=whole, iscrowd=1),
            annotation(7, 3, segmentation=[SQUARE], iscrowd=0),
            annotation(7, 1, segmentation=[[0, 0, 1, 1]], iscrowd=0),  # a line has no pixel
            annotation(8, 1, segmentation=[SQUARE]),
        ],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("name", "key"), [("000000000139.jpg", "139"), ("139", "139"), ("cat_01.png", "cat_01")]
)
def test_photos_are_told_apart_by_number(name, key):
    assert photo_key(name) == key


def test_photos_come_with_their_masks(instances):
    first, second, third = coco_photos(instances)
    assert [(one.name, one.crowd, one.mask.sum()) for one in first.instances] == [
        ("person", True, 24),
        ("tie", False, 4),
    ]
    assert len(second.instances) == 1
    assert third.instances == ()
    assert coco_names(instances) == ["person", "tie"]


def test_pairs_leave_out_crowds_and_held_out_photos(instances, tmp_path):
    (tmp_path / "val.txt").write_text("000000000008.jpg\n\n")
    (pair,) = coco_pairs(instances, read_photo_list(tmp_path / "val.txt"))
    assert (pair.image, pair.noun, pair.box_xyxy) == ("000000000007.jpg", "tie", (1, 1, 3, 3))
    assert (pair.area, pair.score, pair.proposal) == (4, 1.0, 0)
    assert decode_mask(vars(pair))[1:3, 1:3].all()


def test_every_form_of_segmentation_is_the_same_mask():
    expected = np.zeros((4, 6), dtype=bool)
    expected[1:3, 1:3] = True
    compressed = coco_mask.encode(np.asfortranarray(expected, dtype=np.uint8))
    uncompressed = {"size": [4, 6], "counts": [5, 2, 2, 2, 13]}
    for form in ([SQUARE], compressed, uncompressed):
        np.testing.assert_array_equal(decode_segmentation(form, (4, 6)), expected)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"images": []}')
    with pytest.raises(ValueError, match="it lacks .*annotations"):
        next(coco_photos(tmp_path / "x.json"))
