import json

import numpy as np
import pytest
from PIL import Image

from labeling.pretrain import pretrain_maps, pretrain_named, pretrain_pairs, read_index
from maskclip.pairs import decode_mask


@pytest.fixture
def pretrain(tmp_path):
    for source in ("zoo", "ccp", "labelmefacade"):
        (tmp_path / "images" / source).mkdir(parents=True)
        Image.new("RGB", (8, 6)).save(tmp_path / "images" / source / "1.jpg")
    values = np.zeros((6, 8), dtype=np.uint8)
    values[1:4, 1:4] = 1  # shirt
    values[4, 1:4] = 2  # pants
    values[2, 2] = 3  # a tie upon the shirt
    values[0, 7] = 5  # sky, in two parts
    values[5, 5:] = 5
    (tmp_path / "masks").mkdir()
    Image.fromarray(values).save(tmp_path / "masks" / "1.png")
    photo = {"source": "ccp", "image": "images/ccp/1.jpg", "split": "train", "mask": "masks/1.png"}
    rows = [
        {"source": "zoo", "image": "images/zoo/1.jpg", "split": "val", "label": "cat"},
        {
            "source": "zoo",
            "image": "images/zoo/1.jpg",
            "split": "train",
            "label": "Afghan Hound",
            "coarse": "dog",
            "box": [0, 2, 7, 3],
        },
        photo | {"label": "shirt", "mask_values": [1]},
        photo | {"label": "tie", "mask_values": [3]},
        photo | {"label": "person", "mask_values": [1, 2, 3], "union": True},
        photo | {"label": "sky", "mask_values": [5]},
        {"source": "labelmefacade", "image": "images/labelmefacade/1.jpg", "label": "door"},
    ]
    (tmp_path / "index.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return tmp_path


def test_research_only_sources_are_left_out_unless_asked_for(pretrain):
    assert {row["source"] for row in read_index(pretrain)} == {"zoo", "ccp"}
    assert len(read_index(pretrain, ())) == 7


def test_a_row_is_a_region_a_box_or_the_whole_photo(pretrain):
    pairs = list(pretrain_pairs(pretrain, read_index(pretrain), coarse=False))
    found = {pair.noun: (pair.area, pair.box_xyxy, pair.image_id) for pair in pairs}
    assert found == {
        "cat": (48, (0, 0, 8, 6), "zoo/1"),
        "Afghan Hound": (16, (0, 2, 8, 4), "zoo/1"),
        "shirt": (8, (1, 1, 4, 4), "ccp/1"),
        "tie": (1, (2, 2, 3, 3), "ccp/1"),
        "person": (12, (1, 1, 4, 5), "ccp/1"),
        "sky": (4, (5, 0, 8, 6), "ccp/1"),
    }
    assert decode_mask(vars(pairs[0])).all()


def test_coarser_names_come_upon_request(pretrain):
    pairs = list(pretrain_pairs(pretrain, read_index(pretrain), coarse=True))
    assert [pair.noun for pair in pairs[:3]] == ["cat", "Afghan Hound", "dog"]
    assert pairs[1].mask == pairs[2].mask


def test_maps_show_people_whole_and_parts_apart(pretrain):
    rows = [row for row in read_index(pretrain) if "mask" in row]
    ((photo, painted, stem),) = pretrain_maps(pretrain, rows)
    assert (photo, stem) == (pretrain / "images" / "ccp" / "1.jpg", "1")
    # person without its tie, the tie, the two parts of the sky
    assert sorted(np.unique(painted, return_counts=True)[1]) == sorted([48 - 16, 11, 1, 3, 1])
    assert painted[1, 1] == painted[4, 1] != painted[2, 2]


def test_names_show_people_whole_and_parts_together(pretrain):
    rows = [row for row in read_index(pretrain) if "mask" in row]
    ((photo, named),) = pretrain_named(pretrain, rows)
    assert photo == pretrain / "images" / "ccp" / "1.jpg"
    assert [(name, int(mask.sum())) for name, mask in named] == [
        ("person", 12),
        ("sky", 4),
        ("tie", 1),  # painted last, over the person
    ]


def test_a_mask_of_another_size_is_refused(pretrain):
    Image.new("L", (3, 3)).save(pretrain / "masks" / "1.png")
    with pytest.raises(ValueError, match="like its photo"):
        list(pretrain_pairs(pretrain, read_index(pretrain), coarse=False))


def test_the_real_index_is_read(shared):
    rows = read_index(shared / "data" / "pretrain")
    some = [row for row in rows if row["image"] == rows[-1]["image"]]
    assert "labelmefacade" not in {row["source"] for row in rows}
    assert list(pretrain_pairs(shared / "data" / "pretrain", some, coarse=False))
