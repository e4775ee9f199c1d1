"""The metrics against independent counts: NumPy by the definitions, torchmetrics, detectron2."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from maskclip.evaluation import Confusion


def by_definition(said: list, true: list, count: int, ignore: int) -> dict:
    """mIoU and the others, name by name, from the sets of pixels."""
    said = np.concatenate([each.ravel() for each in said])
    true = np.concatenate([each.ravel() for each in true])
    said, true = said[true != ignore], true[true != ignore]
    ious, union_ious, accuracies, weighted = [], [], [], 0.0
    for name in range(count):
        is_said, is_true = said == name, true == name
        both, either = (is_said & is_true).sum(), (is_said | is_true).sum()
        if either:
            union_ious.append(both / either)
        if is_true.any():
            ious.append(both / either)
            accuracies.append(both / is_true.sum())
            weighted += is_true.mean() * both / either
    return {
        "mIoU": 100 * np.mean(ious),
        "mIoU_union": 100 * np.mean(union_ious),
        "fwIoU": 100 * weighted,
        "mACC": 100 * np.mean(accuracies),
        "pACC": 100 * np.mean(said == true),
    }


def random_maps(seed: int, count: int, ignore: int, present: int) -> tuple[list, list]:
    """Photos of different sizes; names from ``present`` on are said but never true."""
    rng = np.random.default_rng(seed)
    said, true = [], []
    for _ in range(5):
        size_hw = tuple(rng.integers(1, 40, 2))
        truth = rng.integers(0, present, size_hw)
        guess = np.where(rng.random(size_hw) < 0.6, truth, rng.integers(0, count, size_hw))
        true.append(np.where(rng.random(size_hw) < 0.2, ignore, truth))
        said.append(guess)
    return said, true


CASES = [(7, 255, 7), (7, 255, 4), (847, 65535, 300), (2, 255, 1)]


@pytest.mark.parametrize(("count", "ignore", "present"), CASES)
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_the_definitions_on_random_maps(seed, count, ignore, present):
    said, true = random_maps(seed, count, ignore, present)
    confusion = Confusion([str(index) for index in range(count)], ignore)
    for labels, truth in zip(said, true, strict=True):
        confusion.add(labels, truth)
    metrics = confusion.metrics()
    for key, value in by_definition(said, true, count, ignore).items():
        assert metrics[key] == pytest.approx(value, abs=1e-9), key


def test_equal_to_the_definitions_on_real_maps(shared):
    """True maps of ADE20K, the same shifted by some pixels being what was said."""
    said, true = [], []
    for path in sorted((shared / "data/samples/ade150/annotations").glob("*.png")):
        labels = np.asarray(Image.open(path)).astype(np.int64) - 1
        true.append(np.where(labels < 0, 255, labels))
        said.append(np.roll(np.where(labels < 0, 0, labels), (9, -17), axis=(0, 1)))
    confusion = Confusion([str(index) for index in range(150)])
    for labels, truth in zip(said, true, strict=True):
        confusion.add(labels, truth)
    metrics = confusion.metrics()
    expected = by_definition(said, true, 150, 255)
    assert 20 < expected["mIoU"] < 95
    for key, value in expected.items():
        assert metrics[key] == pytest.approx(value, abs=1e-9), key


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_torchmetrics(seed):
    classification = pytest.importorskip("torchmetrics.classification")
    count, ignore = 7, 255
    said, true = random_maps(seed, count, ignore, count)
    jaccard = classification.MulticlassJaccardIndex(count, average=None, ignore_index=ignore)
    accuracy = classification.MulticlassAccuracy(count, average="micro", ignore_index=ignore)
    confusion = Confusion([str(index) for index in range(count)], ignore)
    for labels, truth in zip(said, true, strict=True):
        confusion.add(labels, truth)
        for metric in (jaccard, accuracy):
            metric.update(torch.from_numpy(labels).ravel(), torch.from_numpy(truth).ravel())
    metrics = confusion.metrics()
    theirs = jaccard.compute().tolist()
    ours = [metrics["per_class"][str(index)]["IoU"] / 100 for index in range(count)]
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert metrics["pACC"] / 100 == pytest.approx(float(accuracy.compute()), abs=1e-6)


def test_equal_to_detectron2s_evaluator(tmp_path):
    """On the same label PNGs, with names that are absent from the truth and pixels ignored."""
    pytest.importorskip("detectron2")
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.evaluation import SemSegEvaluator

    said, true = random_maps(4, 9, 255, 6)
    entries = []
    for index, truth in enumerate(true):
        file = tmp_path / f"{index}.png"
        Image.fromarray(truth.astype(np.uint8)).save(file)
        entries.append({"file_name": f"{index}.jpg", "sem_seg_file_name": str(file)})
    name = "maskclip_test_evaluator"
    DatasetCatalog.register(name, lambda: entries)
    try:
        names = [f"name {index}" for index in range(9)]
        MetadataCatalog.get(name).set(stuff_classes=names, ignore_label=255)
        theirs = SemSegEvaluator(
            name,
            distributed=False,
            # its own reader does not work with NumPy 2
            sem_seg_loading_fn=lambda file, dtype: np.asarray(Image.open(file)).astype(dtype),
        )
        theirs.reset()
        one_hot = [torch.nn.functional.one_hot(torch.from_numpy(each), 9) for each in said]
        outputs = [{"sem_seg": each.permute(2, 0, 1).float()} for each in one_hot]
        theirs.process(entries, outputs)
        expected = theirs.evaluate()["sem_seg"]
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    ours = Confusion(names)
    for labels, truth in zip(said, true, strict=True):
        ours.add(labels, truth)
    metrics = ours.metrics()
    for key in ("mIoU", "fwIoU", "mACC", "pACC"):
        assert metrics[key] == pytest.approx(expected[key], abs=1e-9), key


def test_counts_of_photos_survive_a_file_and_add_up():
    said, true = random_maps(1, 7, 255, 5)
    whole, parts = Confusion("abcdefg"), Confusion("abcdefg")
    for labels, truth in zip(said, true, strict=True):
        whole.add(labels, truth)
        parts.add_cells(json.loads(json.dumps(parts.count(labels, truth))))
    np.testing.assert_array_equal(whole.counts, parts.counts)


def test_seen_and_unseen_by_hand():
    """IoU: a 1/2 (seen), b 1 (unseen), c 1/3 (unseen), d is not there."""
    truth = np.array([[0, 0, 1, 2, 2]])
    said = np.array([[0, 2, 1, 2, 255]])
    confusion = Confusion("abcd")
    confusion.add(said, truth)
    metrics = confusion.metrics(seen={0, 3})
    assert metrics["seen_mIoU"] == pytest.approx(50)
    assert metrics["unseen_mIoU"] == pytest.approx(100 * (1 + 1 / 3) / 2)
    assert metrics["hIoU"] == pytest.approx(2 * 50 * 200 / 3 / (50 + 200 / 3))
    nothing = confusion.metrics(seen={3})
    assert nothing["seen_mIoU"] is None
    assert nothing["hIoU"] is None
    assert "hIoU" not in confusion.metrics()


def test_names_given_twice_keep_a_row_each():
    confusion = Confusion(["sky", "cat", "sky"])
    confusion.add(np.array([[0, 1, 0]]), np.array([[0, 1, 2]]))
    rows = confusion.metrics()["per_class"]
    assert {name: row["IoU"] for name, row in rows.items()} == {
        "sky (label 0)": 50,
        "cat": 100,
        "sky (label 2)": 0,
    }
