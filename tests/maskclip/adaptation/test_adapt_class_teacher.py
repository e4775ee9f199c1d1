"""What a classifier of closed classes makes of regions, and that a training learns from it."""

import json
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from maskclip.adaptation import train
from maskclip.adaptation.class_teacher import ClassTeacher, load_hints
from maskclip.adaptation.config import AdaptConfig, ClassifierConfig, DataConfig, PairSource
from maskclip.adaptation.pair_table import read_table
from maskclip.adaptation.region_crops import RegionCrops
from maskclip.checkpoint import load_clip
from maskclip.images import load_image
from maskclip.names import read_class_file
from maskclip.trunk_weights import load_classifier

NAMES = ["red", "blue", "green", "yellow"]


@pytest.fixture
def classifier(tmp_path) -> ClassifierConfig:
    """A MobileNetV2 of random weights that tells four colours apart, after a background."""
    torch.manual_seed(0)
    network = timm.create_model("mobilenetv2_100", pad_type="same", num_classes=5)
    state = {key: value for key, value in network.state_dict().items() if "num_batch" not in key}
    save_file(state, tmp_path / "classifier.safetensors")
    (tmp_path / "colours.txt").write_text("\n".join(NAMES) + "\n")
    files = str(tmp_path / "classifier.safetensors"), str(tmp_path / "colours.txt")
    return ClassifierConfig(0.5, *files)


def test_a_row_before_the_classes_is_left_out(classifier):
    stored = load_file(classifier.weights)
    weight, bias = load_classifier(classifier.weights, 4)
    assert torch.equal(weight, stored["classifier.weight"][1:])
    assert torch.equal(bias, stored["classifier.bias"][1:])
    assert torch.equal(load_classifier(classifier.weights, 5)[1], stored["classifier.bias"])
    with pytest.raises(ValueError, match="tells 5 classes apart, but 3 names are given"):
        load_classifier(classifier.weights, 3)


def test_a_file_without_a_classifier_is_said_so(classifier, tmp_path):
    stored = load_file(classifier.weights)
    del stored["classifier.bias"]
    save_file(stored, tmp_path / "trunk.safetensors")
    with pytest.raises(ValueError, match="has no classifier"):
        load_classifier(tmp_path / "trunk.safetensors", 4)
    with pytest.raises(FileNotFoundError, match="no trunk weights at"):
        load_classifier(tmp_path / "none.safetensors", 4)


def test_what_looks_like_a_class_lies_nearest_to_its_text(classifier, start):
    clip = load_clip(str(start))
    teacher = ClassTeacher(classifier, clip)
    points = teacher.points(1e4 * F.normalize(teacher.weight, dim=-1))  # (4, D)
    torch.testing.assert_close(points.norm(dim=-1), torch.ones(4))
    texts = clip.encode_nouns(tuple(NAMES))
    apart = F.normalize(texts - texts.mean(0), dim=-1)
    assert (points @ apart.mT).argmax(1).tolist() == [0, 1, 2, 3]


def test_classes_that_are_left_out_teach_nothing(classifier, start, tmp_path):
    clip = load_clip(str(start))
    whole, less = ClassTeacher(classifier, clip), ClassTeacher(classifier, clip, {"blue"})
    texts = clip.encode_nouns(("red", "green", "yellow"))
    torch.testing.assert_close(less.texts, texts - texts.mean(0))
    features = 60 * F.normalize(whole.weight[1:2], dim=-1)
    blue = clip.encode_nouns(("blue",))[0] - texts.mean(0)
    assert less.points(features) @ blue < whole.points(features) @ blue
    stored = load_file(classifier.weights)
    stored["classifier.weight"][2] = 7.0  # of blue, after the background and red
    save_file(stored, tmp_path / "changed.safetensors")
    changed = replace(classifier, weights=str(tmp_path / "changed.safetensors"))
    found = ClassTeacher(changed, clip, {"blue"}).points(features)
    torch.testing.assert_close(found, less.points(features))
    with pytest.raises(ValueError, match="leaves no class of"):
        ClassTeacher(classifier, clip, set(NAMES))


def test_features_are_computed_once_for_all_choices_of_nouns(
    classifier, colour_pairs, start, tmp_path
):
    clip = load_clip(str(start))
    twice = [PairSource(str(colour_pairs)), PairSource(str(colour_pairs), min_area=2)]
    crops = RegionCrops(read_table(twice), clip, DataConfig())
    cache = tmp_path / "cache"
    hints = load_hints(crops, clip, classifier, str(cache))
    assert hints.shape == (16, clip.embed_dim)
    torch.testing.assert_close(hints[:8], hints[8:])  # each source in its own places
    cut, _ = crops.cut_many([3], None)
    teacher = ClassTeacher(classifier, clip)
    expected = teacher.points(teacher.see(clip.normalise(cut)))[0]
    torch.testing.assert_close(hints[3], expected, atol=1e-3, rtol=0)
    files = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    less = load_hints(crops, clip, classifier, str(cache), {"blue"})
    assert files == {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert not torch.allclose(less, hints)


def test_regions_are_drawn_to_what_the_classifier_makes_of_them(
    classifier, colour_pairs, start, config_for, tmp_path
):
    config = replace(config_for(colour_pairs, log_period=30), classifier=classifier)
    words = tmp_path / "words.txt"
    words.write_text("\n".join(NAMES[2:]))

    def away(weight: float, name: str, leave_out: str = "") -> float:
        drawn = replace(
            config,
            classifier=replace(classifier, weight=weight),
            data=replace(config.data, leave_out_nouns=leave_out),
        )
        assert train(drawn, tmp_path / name, init=start)
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        (loss,) = (json.loads(line)["loss_classifier"] for line in lines if "loss_c" in line)
        return loss / weight

    drawn = away(2.0, "drawn")
    assert drawn < 0.7 * away(1e-6, "alone")
    assert abs(away(2.0, "less", str(words)) - drawn) > 1e-3


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"weight": -1}, "classifier.weight must be 0 or more, got -1"),
        ({"weight": 1}, "needs classifier.weights and classifier.names"),
        ({"trunk": "lite9"}, "classifier.trunk must be one of"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        AdaptConfig(classifier=ClassifierConfig(**settings))


def test_the_listed_names_of_imagenet_are_in_the_order_of_the_classes(shared, start):
    """MobileNetV2 names 20 photos, every fiftieth class, as their labels say, mostly."""
    weights = shared / "weights" / "mobilenetv2_100_imagenet1k.safetensors"
    names = "configs/vocabularies/imagenet1k.txt"
    teacher = ClassTeacher(ClassifierConfig(1, str(weights), names), load_clip(str(start)))
    lines = read_class_file(names)
    rows = map(json.loads, (shared / "data" / "pretrain" / "index.jsonl").open())
    photos = {row["label"]: row["image"] for row in rows if row["source"] == "imagenet_sample"}
    said = []
    for name in lines[::50]:
        photo = torch.from_numpy(load_image(shared / "data" / "pretrain" / photos[name]))
        photo = photo.permute(2, 0, 1)[None].float() / 127.5 - 1
        photo = F.interpolate(photo, (224, 224), mode="bilinear")
        said.append(lines[int((teacher.see(photo) @ teacher.weight.mT + teacher.bias).argmax())])
    assert sum(a == b for a, b in zip(said, lines[::50], strict=True)) >= 12
