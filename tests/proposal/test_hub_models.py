"""Published models: which are taken, from where, and what is wrong with the others."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from proposal.build import build_proposer
from proposal.hub_models import KINDS, HubModel

IMAGE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
SHARED = "detector_model.vision_encoder.backbone."  # SAM 3's tracker sees with its detector's eyes
FEW = {"points_per_side": 2, "min_quality": -1e9, "min_stability": -1.0}


@pytest.fixture
def model(tiny_hub, tmp_path) -> Path:
    """A Mask2Former that may be damaged."""
    return Path(shutil.copytree(tiny_hub("mask2former"), tmp_path / "model"))


def change_config(folder: Path, name: str = "config.json", **changes) -> None:
    content = json.loads((folder / name).read_text()) | changes
    kept = {key: value for key, value in content.items() if value is not None}
    (folder / name).write_text(json.dumps(kept))


def same(one, other) -> bool:
    return torch.allclose(one.mask_probs, other.mask_probs, atol=1e-6) and len(one) == len(other)


@pytest.mark.parametrize("kind", ["detr", "videomt", "segformer", "sam3", "bert", None, ["list"]])
def test_other_kinds_are_refused_by_name_before_their_weights_are_read(model, kind):
    (model / "model.safetensors").unlink()
    change_config(model, model_type=kind)
    with pytest.raises(ValueError) as caught:
        build_proposer(f"hub:{model}")
    assert f"of the kind '{kind}', which was not tried" in str(caught.value).replace('"', "'")
    assert all(known in str(caught.value) for known in KINDS)


def remove_a_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("class_predictor.weight")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def shorten_a_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["class_predictor.weight"] = torch.ones(3, 3)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def truncate(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_a_weight, "misses the weights class_predictor.weight"),
        (shorten_a_weight, "cannot be read as Mask2FormerForUniversalSegmentation: "),
        (truncate, "cannot be read as Mask2FormerForUniversalSegmentation: "),
        (lambda f: (f / "config.json").write_text("{"), "config.json is not readable JSON"),
        (lambda f: (f / "config.json").write_text("[1]"), "must hold a JSON object, got a list"),
        (lambda f: (f / "config.json").unlink(), "holds no model of transformers: no config.json"),
        (lambda f: change_config(f, hidden_dim="wide"), "cannot be read as Mask2Former"),
        (lambda f: (f / "preprocessor_config.json").unlink(), "has no preprocessor_config.json"),
        (lambda f: (f / "preprocessor_config.json").write_text("{"), "is not readable JSON"),
        (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors, and pickled weights"),
    ],
)
def test_damage_is_told_in_one_sentence(model, damage, message):
    damage(model)
    with pytest.raises((ValueError, OSError)) as caught:
        build_proposer(f"hub:{model}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(model) in str(caught.value)


def test_pickles_and_code_in_the_folder_are_never_run(model, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "bang",))

    (model / "model.safetensors").rename(model / "away")
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(FileNotFoundError, match="pickled weights are never read"):
        build_proposer(f"hub:{model}")
    (model / "away").rename(model / "model.safetensors")
    code = f"import pathlib\npathlib.Path({str(tmp_path / 'bang')!r}).touch()\n"
    (model / "theirs.py").write_text(code)
    change_config(model, auto_map={"AutoConfig": "theirs.Config", "AutoModel": "theirs.Model"})
    processor = {"AutoImageProcessor": "theirs.Processor"}
    change_config(model, "preprocessor_config.json", auto_map=processor)
    assert len(build_proposer(f"hub:{model}").propose(IMAGE)) > 0
    assert not (tmp_path / "bang").exists()


def test_the_processors_settings_are_those_of_the_file(model):
    expected = build_proposer(f"hub:{model}").propose(IMAGE)
    changes = {"size_divisor": None, "size_divisibility": 16}  # its older name
    change_config(model, "preprocessor_config.json", **changes)
    proposer = build_proposer(f"hub:{model}")
    assert proposer.processor.size_divisor == 16
    assert proposer.processor.size.shortest_edge == 64
    change_config(model, "preprocessor_config.json", size=64, max_size=96, size_divisibility=32)
    assert same(build_proposer(f"hub:{model}").propose(IMAGE), expected)
    nested = {"image_processor": json.loads((model / "preprocessor_config.json").read_text())}
    (model / "processor_config.json").write_text(json.dumps(nested))
    (model / "preprocessor_config.json").unlink()
    assert same(build_proposer(f"hub:{model}").propose(IMAGE), expected)


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("sam", {"longest_edge": 128}),
        ("sam2", {"height": 128, "width": 128}),
        ("edgetam", {"height": 128, "width": 128}),
        ("sam3_tracker", {"height": 128, "width": 128}),
        ("eomt", {"shortest_edge": 128, "longest_edge": 128}),
        ("eomt_windows", {"shortest_edge": 128, "longest_edge": None}),
    ],
)
def test_a_processor_of_another_size_is_refused(tiny_hub, tmp_path, kind, size):
    folder = Path(shutil.copytree(tiny_hub(kind), tmp_path / kind))
    change_config(folder, "preprocessor_config.json", size=size)
    with pytest.raises(
        ValueError, match=r"resizes photos to \[128\] pixels, its network wants \[64\]"
    ):
        build_proposer(f"hub:{folder}")


def test_weights_in_several_files_are_read(model):
    expected = build_proposer(f"hub:{model}").propose(IMAGE)
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-00001.safetensors": names[::2], "model-00002.safetensors": names[1::2]}
    for part, some in parts.items():
        save_file({name: tensors[name] for name in some}, model / part, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {n: part for part, some in parts.items() for n in some}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert same(build_proposer(f"hub:{model}").propose(IMAGE), expected)


def test_half_precision_is_read_as_single(model):
    expected = build_proposer(f"hub:{model}").propose(IMAGE)
    tensors = load_file(model / "model.safetensors")
    halves = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
    save_file(halves, model / "model.safetensors", {"format": "pt"})
    change_config(model, dtype="float16")
    proposer = build_proposer(f"hub:{model}")
    assert {weight.dtype for weight in proposer.parameters()} == {torch.float32}
    assert torch.allclose(proposer.propose(IMAGE).scores, expected.scores, atol=0.02)


def test_sam_3_is_read_as_it_is_published(tiny_hub, tmp_path):
    """Detector and tracker lie in one file, under other names, as in facebook/sam3."""
    tracker = tiny_hub("sam3_tracker")
    proposer = build_proposer(f"hub:{tracker}", FEW)
    folder = Path(shutil.copytree(tracker, tmp_path / "sam3"))
    published = {"detector_model.text_encoder.weight": torch.zeros(2)}
    places = {"vision_encoder.backbone.": SHARED, "vision_encoder.neck.": "tracker_neck."}
    for name, tensor in proposer.network.state_dict().items():
        start = next((each for each in places if name.startswith(each)), "")
        place = places.get(start, "tracker_model.")
        published[place + name.removeprefix(start)] = tensor
    save_file(published, folder / "model.safetensors", {"format": "pt"})
    inner = json.loads((folder / "config.json").read_text()) | {"model_type": "sam3_tracker_video"}
    config = {"model_type": "sam3_video", "tracker_config": inner, "detector_config": {}}
    (folder / "config.json").write_text(json.dumps(config))
    got = build_proposer(f"hub:{folder}", FEW).propose(IMAGE)
    assert same(got, proposer.propose(IMAGE))


@pytest.mark.parametrize("place", ["nowhere", "a/b/c", "./here", "/no/such/folder", "x/y z"])
def test_neither_a_folder_nor_an_id_is_refused(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"a hub id \(owner/name\), there is no folder"):
        HubModel.find(place)


def test_a_folder_may_be_relative(tiny_hub, monkeypatch):
    folder = tiny_hub("mask2former")
    monkeypatch.chdir(folder.parent)
    assert build_proposer("hub:mask2former").reference == f"hub:{folder}"


def serve(small_hub, folder: Path, leave_out: tuple[str, ...] = ()) -> None:
    files = {p.name: p.read_bytes() for p in folder.iterdir() if p.name not in leave_out}
    small_hub.add("them/model", files)


def test_an_id_is_fetched_once_and_named_with_its_commit(tiny_hub, small_hub):
    for kind in ("oneformer", "sam2"):
        settings = FEW if kind == "sam2" else {}
        folder = tiny_hub(kind)
        small_hub.add(f"them/{kind}", {p.name: p.read_bytes() for p in folder.iterdir()})
        proposer = build_proposer(f"hub:them/{kind}", settings)
        commit = small_hub.repos[f"them/{kind}"].commit
        assert proposer.reference == f"hub:them/{kind}@{commit}"
        expected = build_proposer(f"hub:{folder}", settings).propose(IMAGE)
        assert same(proposer.propose(IMAGE), expected)
        asked = small_hub.requests.copy()
        again = build_proposer(proposer.reference, settings)
        assert same(again.propose(IMAGE), expected)
        assert not [key for key in small_hub.requests - asked if key.startswith("GET")]


def test_nothing_large_is_fetched_of_what_is_refused(tiny_hub, small_hub):
    serve(small_hub, tiny_hub("mask2former"))
    with pytest.raises(ValueError, match="unknown key points"):
        build_proposer("hub:them/model", {"points": 3})
    assert not [key for key in small_hub.requests if "safetensors" in key]


def test_an_id_with_pickled_weights_only_is_refused(tiny_hub, small_hub):
    serve(small_hub, tiny_hub("mask2former"), leave_out=("model.safetensors",))
    small_hub.repos["them/model"].files["pytorch_model.bin"] = b"\x80"
    with pytest.raises(FileNotFoundError, match="pickled weights are never read: look"):
        build_proposer("hub:them/model")


def test_transformers_is_imported_only_where_a_model_of_it_is_used():
    code = "import sys, proposal.build, maskclip; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
