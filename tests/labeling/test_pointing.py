import numpy as np
import pytest

from labeling.pointing import coco_names_of_nouns, innermost_point, judge_mask, objects_of
from labeling.word_lists import DATA, read_words
from maskclip.annotations import AnnotatedPhoto, Instance, coco_names


def rectangle(top, left, bottom, right, size_hw=(10, 20)):
    mask = np.zeros(size_hw, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def test_judged_by_hand():
    objects = np.stack([rectangle(0, 0, 10, 4), rectangle(0, 10, 10, 14)])  # 40 pixels each
    hit = judge_mask(rectangle(0, 0, 10, 6), objects)
    assert hit.instance_iou == pytest.approx(40 / 60)
    assert hit.union_iou == pytest.approx(40 / 100)
    assert (hit.on_instance, hit.on_union, hit.pointed) == (True, False, True)


def test_both_of_two_are_the_union():
    objects = np.stack([rectangle(0, 0, 10, 4), rectangle(0, 4, 10, 8)])
    hit = judge_mask(rectangle(0, 0, 10, 8), objects)
    assert (hit.instance_iou, hit.union_iou) == (0.5, 1.0)
    assert hit.on_instance


def test_a_mask_beside_the_object_misses():
    hit = judge_mask(rectangle(0, 10, 10, 20), rectangle(0, 0, 10, 4)[None])
    assert (hit.instance_iou, hit.union_iou, hit.pointed) == (0.0, 0.0, False)


def test_the_innermost_point_lies_in_the_larger_part():
    mask = rectangle(0, 0, 2, 20) | rectangle(2, 14, 9, 20)
    row, column = innermost_point(mask)
    assert 2 <= row <= 6 and 16 <= column <= 17
    assert innermost_point(rectangle(9, 19, 10, 20)) == (9, 19)


def test_shapes_that_do_not_fit_are_told():
    with pytest.raises(ValueError, match="one or more objects"):
        judge_mask(rectangle(0, 0, 2, 2), np.zeros((0, 10, 20), dtype=bool))
    with pytest.raises(ValueError, match="one or more objects"):
        judge_mask(rectangle(0, 0, 2, 2), np.zeros((1, 5, 5), dtype=bool))


def test_objects_of_a_photo():
    masks = [rectangle(0, 0, 2, 2), rectangle(2, 2, 4, 4), rectangle(4, 4, 6, 6)]
    names, crowds = ("cup", "cat", "wine glass"), (False, False, True)
    instances = tuple(map(Instance, masks, names, crowds))
    photo = AnnotatedPhoto("x.jpg", (10, 20), instances)
    assert objects_of(photo, ("cup", "wine glass")).sum() == 8
    assert objects_of(photo, ("dog",)).shape == (0, 10, 20)


def test_the_table_of_synonyms(shared):
    meanings = coco_names_of_nouns(coco_names(shared / "data" / "coco" / "instances.json"))
    assert meanings["woman"] == ("person",)
    assert meanings["sofa"] == ("couch",)
    assert set(meanings["glass"]) == {"cup", "wine glass"}
    assert meanings["zebra"] == ("zebra",)
    assert "street" not in meanings


def test_the_table_names_only_what_coco_names(shared):
    names = coco_names(shared / "data" / "coco" / "instances.json")
    told = [line.partition(":")[0] for line in read_words(DATA / "coco_synonyms.txt")]
    assert told == names


def test_other_names_are_left_out():
    assert coco_names_of_nouns(["cat", "dragon"])["kitten"] == ("cat",)
    assert set(coco_names_of_nouns(["dragon"])) == {"dragon"}
