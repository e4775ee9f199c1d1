"""Whole models as checkpoint folders."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from maskclip import checkpoint_source
from maskclip.checkpoint import load_clip, load_proposer
from maskclip.segmentor import Segmentor
from proposal.proposals import Proposals

NAMES = ["cat", "sofa|couch"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MASKCLIP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model(tiny_checkpoint, tmp_path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def change_config(model: Path, **changes) -> None:
    path = model / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def change_weights(model: Path, change) -> None:
    tensors = load_file(model / "model.safetensors")
    change(tensors)
    save_file(tensors, model / "model.safetensors")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_is_saved_is_loaded(model, tmp_path, photo, dtype):
    segmentor = Segmentor.from_pretrained(
        model, overrides=["segmentor.mask_threshold=0.4", "clip.templates=vild"]
    )
    segmentor.save_pretrained(tmp_path / "copy", dtype=dtype, provenance={"made": "by hand"})
    copy = Segmentor.from_pretrained(tmp_path / "copy")
    assert copy.config == segmentor.config
    assert copy.clip.config == segmentor.clip.config
    assert copy.proposer.network.config == segmentor.proposer.network.config
    expected, got = (each.segment(photo, NAMES) for each in (segmentor, copy))
    tolerance = 1e-6 if dtype == torch.float32 else 0.02
    assert np.allclose(got.confidence, expected.confidence, atol=tolerance)
    stored = load_file(tmp_path / "copy" / "model.safetensors")
    assert stored["proposer.query_embed.weight"].dtype == dtype
    assert stored["clip.log_logit_scale"].dtype == torch.float32
    assert copy.clip.log_logit_scale.dtype == torch.float32
    assert copy.proposer.network.query_embed.weight.dtype == torch.float32
    config = json.loads((tmp_path / "copy" / "config.json").read_text())
    assert config["format_version"] == 1
    assert config["provenance"] == {"made": "by hand"}
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_values_beyond_halves_stay_singles(model, tmp_path):
    segmentor = Segmentor.from_pretrained(model)
    with torch.no_grad():
        segmentor.proposer.network.query_embed.weight[0, 0] = 1e6
    segmentor.save_pretrained(tmp_path / "copy", dtype=torch.float16)
    stored = load_file(tmp_path / "copy" / "model.safetensors")["proposer.query_embed.weight"]
    assert stored.dtype == torch.float32
    assert stored[0, 0] == 1e6


def remove_a_key(model):
    change_weights(model, lambda tensors: tensors.pop("proposer.query_embed.weight"))


def add_a_key(model):
    change_weights(model, lambda tensors: tensors.update({"clip.extra": torch.zeros(1)}))


def add_a_stray_key(model):
    change_weights(model, lambda tensors: tensors.update({"other.extra": torch.zeros(1)}))


def shorten_a_weight(model):
    change_weights(model, lambda t: t.update({"clip.tower.visual.class_embedding": torch.ones(3)}))


def put_nan(model):
    change_weights(model, lambda tensors: tensors["proposer.query_embed.weight"].fill_(torch.nan))


def truncate(model):
    content = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_a_key, "misses query_embed.weight"),
        (add_a_key, "unexpected extra"),
        (add_a_stray_key, "unexpected weight other.extra"),
        (shorten_a_weight, r"class_embedding must be \(32,\), got \(3,\)"),
        (put_nan, "NaN"),
        (truncate, "damaged or truncated"),
        (lambda m: (m / "model.safetensors").write_bytes(b""), "damaged or truncated"),
        (lambda m: (m / "config.json").write_text("{"), "not readable JSON"),
        (lambda m: change_config(m, format_version=2), "format_version 2"),
        (lambda m: change_config(m, colour="red"), "unknown key colour"),
        (lambda m: change_config(m, segmentor={"x": 1}), "unknown key x"),
        (lambda m: change_config(m, segmentor={"fusion_weight": 7}), "fusion_weight must be"),
        (lambda m: change_config(m, segmentor=[1]), "must be a mapping"),
        (lambda m: change_config(m, proposer={"type": "maskformer", "y": 1}), "unknown key y"),
        (lambda m: change_config(m, proposer={"type": "dream"}), "dream"),
        (lambda m: change_config(m, proposer={}), "must say its type"),
        (lambda m: change_config(m, clip={"z": 1}), "unknown key z"),
        (lambda m: change_config(m, clip="ViT"), "clip must be a mapping"),
        (lambda m: change_config(m, clip=None), "unexpected weight clip"),
    ],
)
def test_every_damage_is_one_sentence(model, damage, message):
    damage(model)
    with pytest.raises(ValueError, match=message) as caught:
        Segmentor.from_pretrained(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(model, file):
    (model / file).unlink()
    with pytest.raises(FileNotFoundError, match=file):
        Segmentor.from_pretrained(model)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("segmentor.x=1", "unknown key x"),
        ("colour=red", "one of proposer, clip, segmentor"),
        ("proposer.y=1", "unknown key y"),
        ("clip.z=1", "unknown key z"),
        ("segmentor.fusion_weight=2", "fusion_weight must be"),
    ],
)
def test_wrong_overrides_are_named(model, override, message):
    with pytest.raises(ValueError, match=message):
        Segmentor.from_pretrained(model, overrides=[override])


def test_parts_can_be_exchanged(model, photo):
    other = Segmentor.from_pretrained(
        model, proposer="superpixels", overrides=["segmentor.compat=true"]
    )
    assert other.config.compat
    result = other.segment(photo, NAMES)
    assert result.model["proposer"] == "superpixels"
    assert result.model["name"] == "tiny"
    twin = Segmentor.from_pretrained(model, proposer=str(model), clip=str(model))
    same = Segmentor.from_pretrained(model, proposer="maskformer")
    labels = [each.segment(photo, NAMES).labels for each in (twin, same)]
    assert np.array_equal(*labels)


def test_another_clip_does_not_hear_stage_1(model):
    """What the network says was learned in its own CLIP's space."""
    setting = "segmentor.fusion_weight=0.5"
    assert Segmentor.from_pretrained(model, overrides=[setting]).config.fusion_weight == 0.5
    change_config(model, segmentor={"fusion_weight": 0.5})
    assert Segmentor.from_pretrained(model, clip=str(model)).config.fusion_weight == 1.0
    asked = Segmentor.from_pretrained(model, clip=str(model), overrides=[setting])
    assert asked.config.fusion_weight == 0.5


def split(model: Path, part: str) -> Path:
    """A run folder of one stage: that part alone."""
    folder = Path(shutil.copytree(model, model.parent / part))
    other = {"proposer": "clip", "clip": "proposer"}[part]
    change_config(folder, **{other: None, "segmentor": None})

    def drop(tensors):
        for name in [name for name in tensors if name.startswith(other)]:
            tensors.pop(name)

    change_weights(folder, drop)
    return folder


def test_run_folders_of_the_two_stages_make_a_whole(model, photo):
    proposer, clip = split(model, "proposer"), split(model, "clip")
    with pytest.raises(ValueError, match=r"holds no clip \(it holds proposer\)"):
        Segmentor.from_pretrained(proposer)
    with pytest.raises(ValueError, match=r"holds no proposer \(it holds clip\)"):
        Segmentor.from_pretrained(clip)
    joined = Segmentor.from_pretrained(proposer, clip=str(clip))
    other_way = Segmentor.from_pretrained(clip, proposer=str(proposer))
    expected = Segmentor.from_pretrained(model).segment(photo, NAMES)
    for segmentor in (joined, other_way):
        assert np.array_equal(segmentor.segment(photo, NAMES).labels, expected.labels)
    assert len(load_proposer(str(proposer)).propose(photo)) == 5
    assert load_clip(str(clip)).side == 32


def test_a_superpixel_checkpoint_needs_no_network(model, tmp_path, photo):
    other = Segmentor.from_pretrained(model, proposer="superpixels")
    other.save_pretrained(tmp_path / "copy")
    copy = Segmentor.from_pretrained(tmp_path / "copy")
    assert copy.proposer.config == other.proposer.config
    assert np.array_equal(copy.segment(photo, NAMES).labels, other.segment(photo, NAMES).labels)


def test_an_unknown_proposer_cannot_be_saved(model, tmp_path):
    class Mine:
        def propose(self, _):
            return Proposals.empty((4, 4))

    segmentor = Segmentor(Mine(), Segmentor.from_pretrained(model).clip)
    with pytest.raises(ValueError, match="cannot describe the proposer Mine"):
        segmentor.save_pretrained(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("source", ["nosuch", "./nosuch", "a/b/c", "/nosuch/at/all", ""])
def test_a_model_that_is_not_there(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="give a packaged name"):
        Segmentor.from_pretrained(source)


def test_packaged_names_come_first_and_are_listed(model, monkeypatch):
    monkeypatch.setattr(checkpoint_source, "PACKAGED", model.parent)
    assert Segmentor.from_pretrained("model").name == "tiny"
    with pytest.raises(FileNotFoundError, match=r"packaged name \(model\)"):
        Segmentor.from_pretrained("mdoel")


def test_another_proposer_is_not_judged_by_the_scores_of_the_first(model):
    tuned = {"objectness_power": 1.0, "min_objectness": 0.2, "size_power": 0.3}
    change_config(model, segmentor=tuned)
    own = Segmentor.from_pretrained(model, proposer="maskformer").config
    assert (own.objectness_power, own.min_objectness) == (1.0, 0.2)
    other = Segmentor.from_pretrained(
        model, proposer="superpixels", overrides=["segmentor.min_objectness=0.1"]
    ).config
    assert (other.objectness_power, other.min_objectness) == (0.0, 0.1)
    assert (own.size_power, other.size_power) == (0.3, 0.0)


def test_another_clip_has_a_scale_of_its_own(model):
    tuned = {"temperature": 14.0, "certainty_power": 0.5, "fusion_weight": 0.7, "head_start": 0.1}
    clip = json.loads((model / "config.json").read_text())["clip"]
    change_config(model, segmentor=tuned, clip=clip | {"taught": ["cat"]})
    own = Segmentor.from_pretrained(model).config
    assert (own.temperature, own.certainty_power, own.fusion_weight) == (14.0, 0.5, 0.7)
    other = Segmentor.from_pretrained(model, clip=str(model)).config
    assert (other.temperature, other.certainty_power, other.fusion_weight) == (0.0, 0.0, 1.0)
    assert (own.head_start, other.head_start) == (0.1, 0.0)
