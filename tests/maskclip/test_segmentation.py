"""What a result says, checks and writes."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from maskclip.regions import Regions
from maskclip.rle import encode_labels
from maskclip.segmentation import Segmentation, display_name, ignore_label, percent


def example(**changes) -> Segmentation:
    """A 2 x 4 photo: road has 3 pixels, the tram 4, one pixel has no name."""
    fields = {
        "labels": torch.tensor([[0, 0, 2, 2], [255, 0, 2, 2]]),
        "names": ["road|street", "bicycle", "tram"],
        "confidence": torch.tensor([[0.5, 0.5, 1, 1], [0, 0.8, 0, 1]]),
        "image": np.zeros((2, 4, 3), np.uint8),
        "milliseconds": {"propose": 12.34, "total": 20.0},
    }
    return Segmentation(**{**fields, **changes})


def with_regions(size_hw=(2, 4)) -> Segmentation:
    regions = Regions(
        mask_probs=torch.tensor([[[1.0, 0.0]], [[0.2, 0.3]]]),  # (2, 1, 2)
        mask_threshold=0.5,
        scores=torch.tensor([0.9, 0.1]),
        class_probs=torch.tensor([[0.7, 0.1, 0.2], [0.0, 0.0, 0.0]]),
        keep=torch.tensor([True, False]),
        region_embeddings=torch.ones(1, 5),
        text_embeddings=torch.ones(4, 5),
    )
    labels = torch.zeros(size_hw, dtype=torch.int64)
    image = np.zeros((*size_hw, 3), np.uint8)
    return example(labels=labels, confidence=torch.ones(size_hw), image=image, regions=regions)


def test_segments_worked_by_hand():
    tram, road = example().segments
    assert (tram.name, tram.label, tram.area, tram.fraction) == ("tram", 2, 4, 0.5)
    assert (road.name, road.label, road.area, road.fraction) == ("road|street", 0, 3, 0.375)
    assert tram.score == 0.75
    assert road.score == 0.6
    assert tram.box_xyxy == (2, 0, 4, 2)
    assert road.box_xyxy == (0, 0, 2, 2)
    assert road.decode().tolist() == [[True, True, False, False], [False, True, False, False]]


def test_repr_names_the_first_synonym_and_the_share():
    assert repr(example()) == "Segmentation 2x4: tram 50%, road 38%"
    assert repr(example(labels=np.full((2, 4), 255))) == "Segmentation 2x4: nothing found"


def test_repr_of_many_names_stays_short():
    labels = np.arange(12)[None]
    result = Segmentation(labels, [f"n{i}" for i in range(12)], labels * 0.0, photo(1, 12))
    assert repr(result).endswith("n9 8%, 2 more")


def photo(height: int, width: int) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0.0, "0%"), (0.001, "<1%"), (0.005, "<1%"), (0.006, "1%"), (0.41, "41%"), (1.0, "100%")],
)
def test_percent(fraction, text):
    assert percent(fraction) == text


@pytest.mark.parametrize(
    ("name", "shown"),
    [("cat", "cat"), (" sofa | couch", "sofa"), ("|x", "x"), ("|", "|"), ("a\n\x1b  b", "a b")],
)
def test_display_name(name, shown):
    assert display_name(name) == shown


@pytest.mark.parametrize(("count", "ignore"), [(1, 255), (255, 255), (256, 65535), (5000, 65535)])
def test_ignore_label(count, ignore):
    assert ignore_label(count) == ignore


def test_too_many_names_for_16_bits():
    with pytest.raises(ValueError, match="65536"):
        ignore_label(65536)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": torch.zeros(2, 4, 1)}, "labels must be"),
        ({"confidence": torch.zeros(4, 2)}, "confidence must be"),
        ({"image": photo(4, 2)}, "image must be"),
        ({"scores": torch.zeros(2, 2, 4)}, "scores must be"),
        ({"names": ["a", "b"]}, "labels must be below 2 .* got 2"),
        ({"ignore": 254}, "got 255"),
        ({"labels": torch.full((2, 4), -1)}, "got -1"),
    ],
)
def test_fields_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        example(**changes)


def test_fields_become_arrays():
    result = example(scores=torch.zeros(3, 2, 4))
    assert (result.labels.dtype, result.confidence.dtype) == (np.int64, np.float32)
    assert isinstance(result.scores, np.ndarray)
    assert result.names == ("road|street", "bicycle", "tram")


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (13, 9)])
@pytest.mark.parametrize("values", [1, 2, 30])
def test_encode_labels_equals_pycocotools(shape, values):
    labels = np.random.default_rng(0).integers(0, values, shape)
    encoded = dict(encode_labels(labels))
    assert sorted(encoded) == np.unique(labels).tolist()
    for value, rle in encoded.items():
        mask = np.asfortranarray(labels == value).astype(np.uint8)
        assert rle == coco_mask.encode(mask)


def test_5000_names_on_a_wide_photo():
    labels = np.arange(5000)[None]
    result = Segmentation(labels, [str(i) for i in range(5000)], labels * 0.0, photo(1, 5000))
    assert result.ignore == 65535
    assert len(result.segments) == 5000
    assert result.segments[4999].box_xyxy == (4999, 0, 5000, 1)


def test_json_has_all_fields(tmp_path):
    model = {"name": "nano", "proposer": "maskformer", "clip": "c", "version": "0.1.0"}
    result = example(model=model)
    (path,) = result.save(tmp_path, "x", ["json"], path="fotos/été.jpg")
    content = json.loads(path.read_text(encoding="utf-8"))
    assert "été" in path.read_text(encoding="utf-8")
    assert list(content) == ["image", "names", "ignore", "segments", "model", "milliseconds"]
    assert content["image"] == {"path": "fotos/été.jpg", "height": 2, "width": 4}
    assert content["names"] == ["road|street", "bicycle", "tram"]
    assert content["ignore"] == 255
    assert content["model"] == model
    assert content["milliseconds"] == {"propose": 12.3, "total": 20.0}
    tram = content["segments"][0]
    keys = ["name", "label", "score", "area", "fraction", "box_xyxy", "mask"]
    assert list(tram) == keys
    assert tram["box_xyxy"] == [2, 0, 4, 2]
    assert tram["mask"]["size"] == [2, 4]
    assert isinstance(tram["mask"]["counts"], str)
    assert coco_mask.decode(tram["mask"]).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]


def test_a_path_that_is_no_text_can_be_written(tmp_path):
    (path,) = example().save(
        tmp_path, "x", ["json"], path=b"\xff.jpg".decode("utf-8", "surrogateescape")
    )
    assert json.loads(path.read_bytes())["image"]["path"] == "\udcff.jpg"


@pytest.mark.parametrize(
    ("count", "kind", "nothing"),
    [(3, np.uint8, 255), (255, np.uint8, 255), (256, np.uint16, 65535)],
)
def test_label_png(tmp_path, count, kind, nothing):
    labels = np.array([[0, count - 1, nothing]])
    result = Segmentation(labels, [str(i) for i in range(count)], labels * 0.0, photo(1, 3))
    (path,) = result.save(tmp_path, "sub/folder/x", ["labels"])
    assert path == tmp_path / "sub/folder/x.labels.png"
    stored = np.asarray(Image.open(path))
    assert stored.dtype == kind
    assert stored.tolist() == labels.tolist()


def test_masks_are_saved_at_the_size_of_the_photo(tmp_path):
    (path,) = with_regions().save(tmp_path, "x", ["masks"])
    assert path.name == "x.masks.npz"
    with np.load(path) as stored:
        assert sorted(stored) == ["class_probs", "masks", "scores"]
        assert stored["masks"].dtype == bool
        assert stored["masks"][0].tolist() == [[True, True, False, False]] * 2
        assert not stored["masks"][1].any()
        assert stored["class_probs"].shape == (2, 3)


def test_embeddings_are_saved(tmp_path):
    (path,) = with_regions().save(tmp_path, "x", ["embeddings"])
    assert path.name == "x.embeddings.npz"
    with np.load(path) as stored:
        assert stored["region_embeddings"].shape == (1, 5)
        assert stored["text_embeddings"].shape == (4, 5)
        assert stored["keep"].tolist() == [True, False]


def test_no_proposals_make_empty_files(tmp_path):
    none = torch.zeros(0)
    regions = Regions(
        mask_probs=torch.zeros(0, 1, 2),
        mask_threshold=0.5,
        scores=none,
        class_probs=torch.zeros(0, 3),
        keep=none.bool(),
        region_embeddings=torch.zeros(0, 5),
        text_embeddings=torch.ones(4, 5),
    )
    masks, _ = example(regions=regions).save(tmp_path, "x", ["masks", "embeddings"])
    with np.load(masks) as stored:
        assert stored["masks"].shape == (0, 2, 4)


def test_overlay_holds_the_photo_and_the_legend(tmp_path):
    (path,) = example().save(tmp_path, "x", ["overlay"])
    with Image.open(path) as picture:
        assert picture.width > 4


@pytest.mark.parametrize(
    ("kinds", "message"),
    [(["pictures"], "choose from overlay, labels, json"), (["masks"], "return_regions=True")],
)
def test_what_cannot_be_saved(tmp_path, kinds, message):
    with pytest.raises(ValueError, match=message):
        example().save(tmp_path, "x", kinds)
    assert not list(tmp_path.iterdir())


def test_files_appear_whole_or_not_at_all(tmp_path):
    target = tmp_path / "x.overlay.png"
    target.write_text("older")
    broken = example(names=["a", "b", "c"])
    broken.image.resize((0,), refcheck=False)  # drawing will fail
    with pytest.raises(ValueError):
        broken.save(tmp_path, "x", ["overlay"])
    assert [path.name for path in tmp_path.iterdir()] == ["x.overlay.png"]
    assert target.read_text() == "older"
