import json

import numpy as np
import pytest
from PIL import Image

from labeling.worth import Truth, TruthProposer, measure_worth, table
from maskclip.annotations import AnnotatedPhoto, Instance
from maskclip.segmentor import Segmentor

COCO = ["person", "cat"]  # the names that this folder's instances have


@pytest.fixture
def shared_folder(tmp_path):
    """A small folder of the project's form: 1.jpg held out, 2.jpg not, 3.jpg without captions."""
    data = tmp_path / "data"
    (data / "coco" / "images").mkdir(parents=True)
    (data / "splits").mkdir()
    (data / "splits" / "coco_val.txt").write_text("1.jpg\n")
    rng = np.random.default_rng(0)
    for number in (1, 2, 3):
        pixels = rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(data / "coco" / "images" / f"{number}.jpg")
    images = [{"id": n, "file_name": f"{n}.jpg", "height": 40, "width": 60} for n in (1, 2, 3)]
    square = {"segmentation": [[10, 10, 30, 10, 30, 30, 10, 30]], "iscrowd": 0, "area": 400}
    annotations = [{"id": n, "image_id": n, "category_id": 2, **square} for n in (1, 2, 3)]
    categories = [{"id": number, "name": name} for number, name in enumerate(COCO, start=1)]
    instances = {"images": images, "annotations": annotations, "categories": categories}
    (data / "coco" / "instances.json").write_text(json.dumps(instances))
    said = [(1, "A kitten and a man."), (2, "A cat on a street."), (2, "Nothing.")]
    captions = [{"id": n, "image_id": i, "caption": text} for n, (i, text) in enumerate(said)]
    content = {"images": images, "annotations": captions}
    (data / "coco" / "captions.json").write_text(json.dumps(content))
    return tmp_path


@pytest.fixture(scope="module")
def segmentor(tiny_checkpoint):
    return Segmentor.from_pretrained(tiny_checkpoint)


def test_the_photos_that_have_both(shared_folder):
    truth = Truth.load(shared_folder)
    assert [entry.image for entry, _ in truth.entries] == ["1.jpg", "2.jpg"]
    assert [truth.split_of(photo) for _, photo in truth.entries] == ["val", "other"]
    assert len(Truth.load(shared_folder, limit=0).entries) == 0
    with pytest.raises(FileNotFoundError, match="holds data/"):
        Truth.load(shared_folder / "data")


def test_with_the_true_masks_one_object_is_always_found(shared_folder, segmentor):
    """One mask in each photo: whatever CLIP says, each noun gets it."""
    numbers = measure_worth(segmentor, Truth.load(shared_folder), proposers=["truth"])
    ours, paper = numbers["truth"]["ours"], numbers["truth"]["paper"]
    for split in (*ours.values(), *paper.values()):
        measured = [split[name] for name in ("instance", "either", "pointing", "reachable")]
        assert measured == [100.0] * 4
        assert (split["pairs"], split["photos"], split["chance"]) == (1, 1, 100.0)
    assert (ours["val"]["absent"], ours["other"]["absent"]) == (1, 0)  # no person is annotated
    assert "| truth | paper | 1 val | 1 | 100.0 |" in table(numbers)


def test_other_proposers_are_measured_alike(shared_folder, segmentor):
    numbers = measure_worth(segmentor, Truth.load(shared_folder), proposers=["own", "superpixels"])
    for name in ("own", "superpixels"):
        for split in (*numbers[name]["ours"].values(), *numbers[name]["paper"].values()):
            assert split["pairs"] == 1
            assert split["either"] <= split["reachable"] <= 100


def test_no_photos_are_no_numbers(shared_folder, segmentor):
    numbers = measure_worth(segmentor, Truth.load(shared_folder, limit=0), proposers=["truth"])
    assert numbers["truth"]["ours"]["val"]["pairs"] == 0
    assert np.isnan(numbers["truth"]["ours"]["val"]["either"])


def test_truth_is_proposed_as_it_is():
    mask = np.zeros((4, 6), dtype=bool)
    mask[1:3] = True
    photos = {
        "a": AnnotatedPhoto("a.jpg", (4, 6), (Instance(mask, "cat", crowd=True),)),
        "b": AnnotatedPhoto("b.jpg", (4, 6), ()),
    }
    image = np.zeros((4, 6, 3), np.uint8)
    first, second = TruthProposer(photos).propose_batch([image, image], ["a", "b"])
    assert first.mask_probs.shape == (1, 4, 6)
    assert first.mask_probs.sum() == 12
    assert second.mask_probs.shape == (0, 4, 6)
