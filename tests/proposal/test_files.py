"""Ready masks from label maps, JSON files, arrays and COCO files."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from proposal.build import build_proposer
from proposal.files import FilesConfig, FilesProposer

IMAGE = np.zeros((4, 6, 3), dtype=np.uint8)
LEFT = np.zeros((4, 6), dtype=bool)
LEFT[:, :2] = True
DOT = np.zeros((4, 6), dtype=bool)
DOT[1, 4] = True


def save(path, values, mode=None):
    picture = Image.fromarray(values)
    if mode == "P":
        picture = Image.fromarray(values, "L").convert("P")
        picture.putdata(values.ravel().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def packed(mask: np.ndarray) -> dict:
    encoded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}


def runs(mask: np.ndarray) -> dict:
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=False, append=not flat[-1]))
    return {"size": list(mask.shape), "counts": np.diff(edges, prepend=0).tolist()}


def write(path: Path, content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def propose(place, stem="a", image=IMAGE, **settings):
    (proposals,) = build_proposer(f"files:{place}", settings).propose_batch([image], [stem])
    return proposals


def shows(proposals, masks, scores) -> bool:
    got = proposals.mask_probs.numpy()
    same = got.shape == (len(masks), 4, 6) and np.array_equal(got, np.array(masks, dtype=float))
    return same and np.allclose(proposals.scores.numpy(), scores)


@pytest.mark.parametrize(
    ("values", "mode"),
    [
        (np.array([[0, 0, 5], [9, 9, 5]], dtype=np.uint8), None),
        (np.array([[0, 0, 500], [900, 900, 500]], dtype=np.uint16), None),
        (np.array([[0, 0, 5], [9, 9, 5]], dtype=np.uint8), "P"),
    ],
)
def test_each_value_but_zero_is_a_region(tmp_path, values, mode):
    save(tmp_path / "a.png", values, mode)
    proposals = propose(tmp_path)
    assert proposals.mask_probs.tolist() == [[[0, 0, 1], [0, 0, 1]], [[0, 0, 0], [1, 1, 0]]]
    assert proposals.scores.tolist() == [1, 1]


def test_a_map_of_zeros_has_no_regions(tmp_path):
    save(tmp_path / "a.png", np.zeros((4, 6), dtype=np.uint8))
    assert propose(tmp_path).mask_probs.shape == (0, 4, 6)


SQUARE = [[0, 0, 2, 0, 2, 4, 0, 4]]  # LEFT as a polygon


@pytest.mark.parametrize(
    ("content", "scores"),
    [
        ([packed(LEFT), packed(DOT)], [1, 1]),
        ([runs(LEFT), packed(DOT)], [1, 1]),
        ([{"segmentation": packed(LEFT), "score": 0.25}, {"mask": runs(DOT)}], [0.25, 1]),
        ({"masks": [packed(LEFT), packed(DOT)], "scores": [0.5, 0.75]}, [0.5, 0.75]),
        (
            {
                "image": {"path": "a.jpg", "height": 4, "width": 6},
                "names": ["cat"],
                "segments": [
                    {"name": "cat", "label": 0, "score": 0.5, "mask": packed(LEFT)},
                    {"name": "dog", "label": 1, "score": 0.125, "mask": packed(DOT)},
                ],
            },
            [0.5, 0.125],
        ),
        (
            {  # as SA-1B is published
                "image": {"image_id": 7, "height": 4, "width": 6, "file_name": "sa_7.jpg"},
                "annotations": [
                    {"segmentation": packed(LEFT), "predicted_iou": 0.875, "area": 8},
                    {"segmentation": packed(DOT), "predicted_iou": 0.5, "area": 1},
                ],
            },
            [0.875, 0.5],
        ),
        (
            {
                "images": [{"id": 3, "file_name": "a.jpg", "height": 4, "width": 6}],
                "annotations": [
                    {"image_id": 3, "segmentation": SQUARE},
                    {"image_id": 3, "segmentation": runs(DOT), "score": 0.5},
                ],
            },
            [1, 0.5],
        ),
    ],
)
def test_json_of_one_photo(tmp_path, content, scores):
    write(tmp_path / "a.json", content)
    assert shows(propose(tmp_path), [LEFT, DOT], scores)


@pytest.mark.parametrize("content", [[], {"segments": []}, {"masks": [], "scores": []}])
def test_json_without_masks_has_no_regions(tmp_path, content):
    write(tmp_path / "a.json", content)
    assert propose(tmp_path).mask_probs.shape == (0, 4, 6)


def test_arrays_as_predict_saves_them(tmp_path):
    masks = np.stack([LEFT, DOT])
    probs = np.ones((2, 3), dtype=np.float32)
    np.savez(tmp_path / "a.masks.npz", masks=masks, scores=[0.5, 0.25], class_probs=probs)
    assert shows(propose(tmp_path), [LEFT, DOT], [0.5, 0.25])
    np.savez(tmp_path / "b.masks.npz", masks=masks)
    assert shows(propose(tmp_path, "b"), [LEFT, DOT], [1, 1])
    np.savez(tmp_path / "c.masks.npz", masks=masks[:0], scores=np.zeros(0))
    assert len(propose(tmp_path, "c")) == 0


def instances(**changes) -> dict:
    return {
        "images": [
            {"id": 1, "file_name": "a.jpg", "height": 4, "width": 6},
            {"id": 2, "file_name": "sub/b.jpg", "height": 4, "width": 6},
            {"id": 3, "file_name": "empty.jpg", "height": 4, "width": 6},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "segmentation": SQUARE, "iscrowd": 0},
            {"id": 2, "image_id": 1, "segmentation": runs(~LEFT), "iscrowd": 1},
            {"id": 3, "image_id": 2, "segmentation": packed(DOT), "score": 0.5},
        ],
        **changes,
    }


def test_one_coco_file_for_all_photos(tmp_path):
    path = write(tmp_path / "instances_val.json", instances())
    write(tmp_path / "summary.json", {})
    write(tmp_path / "captions.json", instances(annotations=[{"image_id": 1, "caption": "a"}]))
    for place in (tmp_path, path):
        assert shows(propose(place), [LEFT, ~LEFT], [1, 1])  # a crowd is a region, too
        assert shows(propose(place, "sub/b"), [DOT], [0.5])
        assert shows(propose(place, "b"), [DOT], [0.5])
        assert len(propose(place, "empty")) == 0
        with pytest.raises(FileNotFoundError, match="photo c"):
            propose(place, "c")


def test_results_know_photos_by_their_number_or_stem(tmp_path):
    results = [
        {"image_id": 42, "category_id": 1, "segmentation": packed(LEFT), "score": 0.5},
        {"image_id": "a", "category_id": 1, "segmentation": packed(DOT), "score": 0.25},
        {"image_id": 42, "category_id": 3, "segmentation": packed(DOT), "score": 0.125},
    ]
    write(tmp_path / "results.json", results)
    assert shows(propose(tmp_path, "000000000042"), [LEFT, DOT], [0.5, 0.125])
    assert shows(propose(tmp_path, "deep/a"), [DOT], [0.25])


def test_a_panoptic_file_with_its_pngs(tmp_path):
    ids = 1 + 255 * DOT.astype(np.int64)  # 1 and 256
    colours = np.stack([ids % 256, ids // 256, 0 * ids], axis=2).astype(np.uint8)
    segments = [{"id": 256, "iscrowd": 0}, {"id": 1, "iscrowd": 1}, {"id": 9, "iscrowd": 0}]
    annotation = {"image_id": 1, "file_name": "a.png", "segments_info": segments}
    path = write(tmp_path / "panoptic.json", instances(annotations=[annotation]))
    save(tmp_path / "panoptic" / "a.png", colours)
    assert shows(propose(path), [DOT, ~DOT, 0 * DOT], [1, 1, 1])
    assert len(propose(path, "empty")) == 0


def test_photos_of_subfolders_find_their_masks(tmp_path):
    one, other = (np.full((4, 6), value, dtype=np.uint8) for value in (1, 2))
    two = np.where(DOT, 3, other).astype(np.uint8)
    save(tmp_path / "sub" / "a.png", one)
    save(tmp_path / "a.png", two)
    save(tmp_path / "x.jpg.png", one)
    save(tmp_path / "x.png", two)
    counts = {stem: len(propose(tmp_path, stem)) for stem in ("sub/a", "else/a", "a")}
    assert counts == {"sub/a": 1, "else/a": 2, "a": 2}
    assert len(propose(tmp_path, "x.jpg")) == 1  # where x.jpg and x.png lie side by side
    assert len(propose(tmp_path, "sub/x.png")) == 2


def test_several_files_are_a_question(tmp_path):
    save(tmp_path / "a.png", np.full((4, 6), 1, dtype=np.uint8))
    write(tmp_path / "a.json", [packed(LEFT), packed(DOT)])
    with pytest.raises(
        ValueError, match=r"several files .* \(a.png, a.json\): .*kind=png or json$"
    ):
        propose(tmp_path)
    assert len(propose(tmp_path, kind="png")) == 1
    assert len(propose(tmp_path, kind="json")) == 2
    with pytest.raises(FileNotFoundError, match=r"expected a\.masks\.npz$"):
        propose(tmp_path, kind="npz")
    with pytest.raises(ValueError, match="kind must be one of auto, png, json, npz, coco"):
        propose(tmp_path, kind="bmp")
    assert FilesConfig().kind == "auto"


def test_several_coco_files_are_a_question(tmp_path):
    for name in ("one.json", "two.json"):
        write(tmp_path / name, instances())
    with pytest.raises(ValueError, match=r"several COCO files \(one.json, two.json\): give"):
        propose(tmp_path)
    assert len(propose(tmp_path / "two.json")) == 2


def test_photos_of_one_name_are_a_question(tmp_path):
    images = [
        {"id": number, "file_name": f"{folder}/a.jpg", "height": 4, "width": 6}
        for number, folder in enumerate("xy")
    ]
    annotations = [{"image_id": 1, "segmentation": packed(DOT)}]
    path = write(tmp_path / "coco.json", {"images": images, "annotations": annotations})
    with pytest.raises(ValueError, match=r"several photos of the name a \(x/a, y/a\)"):
        propose(path)
    assert len(propose(path, "y/a")) == 1


BAD = {"size": [4, 6], "counts": [100, 3]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", {"names": []}, "must be a list of masks or have segments, annotations or masks"),
        ("a.json", {"segments": [{"score": 1}]}, "holds no COCO masks of one photo"),
        ("a.json", {"segments": 3}, "holds no COCO masks of one photo"),
        ("a.json", 3, "holds no COCO masks of one photo"),
        ("a.json", [3], "holds no COCO masks of one photo"),
        ("a.json", [BAD], "holds no COCO masks of one photo"),
        ("a.json", [{"size": [4, 6], "counts": [-1, 25]}], "holds no COCO masks of one photo"),
        ("a.json", [{"size": [4, 6], "counts": "@@~zz~"}], "holds no COCO masks of one photo"),
        ("a.json", [{"size": [4], "counts": [24]}], "holds no COCO masks of one photo"),
        ("a.json", [{"size": [4, 6], "counts": None}], "holds no COCO masks of one photo"),
        ("a.json", [[[0, 0, 1]]], "holds no COCO masks of one photo"),
        ("a.json", [{"mask": packed(LEFT), "score": None}], "holds no COCO masks of one photo"),
        ("a.json", [packed(LEFT), packed(LEFT[:2])], "holds no COCO masks of one photo"),
        (
            "a.json",
            [packed(LEFT[:, :1])],
            r"must have the shape of its photo \(4, 6\), got \(4, 1\)",
        ),
        ("a.json", [{"mask": packed(LEFT), "score": 90}], r"scores in \[0, 1\], got 90"),
        ("a.json", {"masks": [packed(LEFT)], "scores": [1, 2]}, "holds no COCO masks of one"),
        ("a.json", instances(), "must be about one photo, it is about 3: give it itself, files:"),
        ("all.json", {"some": "thing"}, "has no masks for the photo a: expected a.png or a.json"),
        ("all.json", instances(annotations=[{"segmentation": 1}]), "is no COCO file: KeyError"),
        ("all.json", instances(annotations=[{"caption": "a"}]), "has no masks for the photo a"),
        (
            "all.json",
            [{"image_id": "a", "bbox": [1, 2, 3, 4]}],
            "has a damaged mask for a: .*KeyError",
        ),
    ],
)
def test_damaged_json_is_refused(tmp_path, name, content, message):
    write(tmp_path / name, content)
    with pytest.raises((ValueError, OSError), match=message) as caught:
        propose(tmp_path)
    assert "\n" not in str(caught.value)


def test_json_that_is_none_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match="is not readable JSON"):
        propose(tmp_path)
    with pytest.raises(ValueError, match="is no COCO file of masks: expected images"):
        propose(write(tmp_path / "b.json", {"images": []}))


def test_damaged_arrays_are_refused(tmp_path):
    path = tmp_path / "a.masks.npz"
    for content in (b"", b"PK", pickle.dumps([1])):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="holds no masks as predict --save masks writes"):
            propose(tmp_path)
    for arrays in ({"scores": np.ones(2)}, {"masks": np.array([{}], dtype=object)}):
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match="holds no masks as predict --save masks writes"):
            propose(tmp_path)
    np.savez(path, masks=LEFT)
    with pytest.raises(ValueError, match=r"must hold masks \(Q, H, W\)"):
        propose(tmp_path)


def test_what_does_not_fit_is_refused(tmp_path):
    proposer = FilesProposer(tmp_path)
    with pytest.raises(ValueError, match="must know the file name"):
        proposer.propose(IMAGE)
    with pytest.raises(ValueError, match="must know the file name"):
        proposer.propose_batch([IMAGE], [None])
    with pytest.raises(FileNotFoundError, match="has no masks for the photo absent: expected"):
        proposer.propose_batch([IMAGE], ["absent"])
    save(tmp_path / "tall.png", np.zeros((60, 40), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"shape of its photo \(4, 6\), got \(60, 40\)"):
        proposer.propose_batch([IMAGE], ["tall"])
    save(tmp_path / "colour.png", np.zeros((4, 6, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="got 3 channels"):
        proposer.propose_batch([IMAGE], ["colour"])
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    with pytest.raises(OSError, match="cannot read the region PNG"):
        proposer.propose_batch([IMAGE], ["cut"])
    for place in (tmp_path / "absent", tmp_path / "cut.png"):
        with pytest.raises(FileNotFoundError, match="found no"):
            FilesProposer(place)
