import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from labeling.held_out import IGNORE
from labeling.msrc import MsrcPhotos, measure_msrc

IDS = {"1": "building", "2": "grass", "4": "cow", "9": "airplane"}
PIXELS = np.array([[1, 1, 2, 2, 2], [0, 0, 4, 9, 2]], dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """A shared folder with one photo for validation; no region is labelled airplane."""
    pretrain = tmp_path / "data" / "pretrain"
    for name in ("images", "masks"):
        (pretrain / name).mkdir(parents=True)
    (tmp_path / "data" / "splits").mkdir()
    (tmp_path / "data" / "splits" / "coco_unseen.txt").write_text("cow\nairplane\n")
    Image.new("RGB", (5, 2)).save(pretrain / "images" / "v.png")
    Image.fromarray(PIXELS).save(pretrain / "masks" / "v.png")
    row = {"source": "msrc_v2", "image": "images/v.png", "mask": "masks/v.png"}
    rows = [
        row | {"split": "val", "label": "building"},
        row | {"split": "val", "label": "grass"},
        row | {"split": "train", "label": "cow", "image": "images/t.png"},
        row | {"split": "val", "label": "person", "union": True},
        row | {"split": "val", "label": "airplane", "source": "caltech101"},
    ]
    lines = "\n".join(json.dumps(each) for each in rows)
    (pretrain / "index.jsonl").write_text(lines, encoding="utf-8")
    (pretrain / "mask_ids.json").write_text(json.dumps({"msrc_v2": {"mask_ids": IDS}}))
    return tmp_path


def test_names_are_those_of_ids_that_label_a_region(folder):
    photos = MsrcPhotos.load(folder)
    assert photos.names == ("building", "grass", "cow")
    assert len(photos.photos) == 1
    truth = photos.truth(photos.photos[0][1])
    np.testing.assert_array_equal(truth, [[0, 0, 1, 1, 1], [IGNORE, IGNORE, 2, IGNORE, 1]])


def test_metrics_of_a_model_that_sees_no_cow(folder):
    class Says:
        def segment(self, image, names):
            said = np.full(image.shape[:2], names.index("grass"))
            said[0, :2] = names.index("building")
            return SimpleNamespace(labels=said)

    found = measure_msrc(Says(), MsrcPhotos.load(folder))
    assert found["model"]["pixels"] == 7
    assert found["model"]["mIoU"] == pytest.approx((100 + 80 + 0) / 3)
    assert found["model"]["seen_mIoU"] == pytest.approx(90)
    assert found["model"]["unseen_mIoU"] == found["model"]["hIoU"] == 0
    assert found["model"]["per_class"]["grass"]["IoU"] == pytest.approx(80)
    assert found["always grass"]["pACC"] == pytest.approx(100 * 4 / 7)


def test_the_validation_photos(shared):
    photos = MsrcPhotos.load(shared)
    assert (len(photos.photos), len(photos.names)) == (55, 23)
    assert "person" not in photos.names
    assert {"human face", "human body", "grass", "cow"} <= set(photos.names)
