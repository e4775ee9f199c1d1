"""The training of a dense head on label maps."""

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from labeling.teachers import teacher_words
from maskclip.adaptation.dense_cells import Cells, read_cells
from maskclip.adaptation.dense_config import (
    CellConfig,
    DenseTrainConfig,
    DenseTraining,
    HeadConfig,
    LabelSource,
)
from maskclip.adaptation.dense_training import evaluate, train
from maskclip.checkpoint import load_clip
from maskclip.clip_config import ClipConfig
from maskclip.clip_folder import save_clip
from maskclip.clip_models import build_clip
from proposal.checkpoint_files import read_config
from proposal.configuration import load_config
from proposal.training_loop import DivergedError

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
VISION = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
TEXT = {"width": 16, "heads": 1, "layers": 1, "context_length": 24}
MODEL = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}
ROWS = ("sky", "road")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MASKCLIP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def start(tmp_path):
    """A tiny CLIP that reads whole photos, with a trunk of random weights."""
    torch.manual_seed(0)
    clip = build_clip(ClipConfig(name="tiny", model=MODEL, photo_context=True, templates="single"))
    save_clip(clip, tmp_path / "start", {"stage": "clip"})
    return tmp_path / "start"


@pytest.fixture
def deeplab(tmp_path):
    """The head of a DeepLab with three classes, of random weights."""
    random, stored = torch.Generator().manual_seed(0), {}
    sizes = {"image_pooling": (256, 320), "aspp0": (256, 320), "concat_projection": (256, 512)}
    for name, (out, inputs) in {**sizes, "logits": (3, 256)}.items():
        weight = torch.randn(out, inputs, 1, 1, generator=random) / inputs**0.5
        stored |= {f"deeplab.{name}.weight": weight, f"deeplab.{name}.bias": torch.zeros(out)}
    save_file(stored, tmp_path / "deeplab.safetensors")
    return tmp_path / "deeplab.safetensors"


@pytest.fixture
def labelled(tmp_path):
    """Six photos, the upper half sky, the lower road, a strip in between without a name."""
    for folder in ("set/images", "set/labels"):
        (tmp_path / folder).mkdir(parents=True)
    labels = np.zeros((64, 96), np.uint8)
    labels[32:], labels[26:38] = 1, 255
    for index in range(6):
        noise = np.random.default_rng(index).integers(0, 40, (64, 96, 3))
        photo = np.where(labels[..., None] == 0, (90, 140, 210), (90, 70, 60)) + noise
        Image.fromarray(photo.astype(np.uint8)).save(tmp_path / "set/images" / f"{index}.png")
        Image.fromarray(labels).save(tmp_path / "set/labels" / f"{index}.png")
    (tmp_path / "set/names.txt").write_text("sky|heaven\nroad\n")
    return {key: str(tmp_path / "set" / key) for key in ("labels", "images")} | {
        "names": str(tmp_path / "set/names.txt")
    }


def make_config(labelled, deeplab, **settings) -> DenseTraining:
    source = LabelSource(**labelled)
    return DenseTraining(
        HeadConfig(deeplab=str(deeplab), width=32, rows=ROWS),
        CellConfig(sources=(source,), evaluate=(source,), cells=40),
        DenseTrainConfig(
            **{"steps": 40, "batch_size": 64, "cells_per_photo": 8, "warmup_steps": 2, "seed": 1}
            | settings
        ),
    )


def test_nano_s_config_is_understood():
    config = load_config(DenseTraining, CONFIGS / "dense_nano.yaml", [])
    assert [source.title for source in config.data.sources][:2] == ["coco", "coco128"]
    assert config.clip.rows == teacher_words("voc").names


def test_places_learn_their_names(labelled, deeplab, start, tmp_path):
    config = make_config(labelled, deeplab, average=0.8, rows_weight=0.1)
    before = load_clip(str(start))
    metrics = train(config, tmp_path / "run", init=start)
    assert metrics["set/top1"] > 90 and metrics["set/mean_per_class"] > 90
    assert evaluate(config, tmp_path / "run") == metrics
    clip = load_clip(str(tmp_path / "run"))
    assert clip.config == replace(before.config, dense_width=32, taught=("road", "sky"))
    weights = clip.state_dict()
    assert all(torch.equal(weights[name], each) for name, each in before.state_dict().items())
    made = read_config(tmp_path / "run")["provenance"]
    assert made["stage"] == "dense" and made["tower"] == {"stage": "clip"}
    texts, _ = clip.encode_names(ROWS)
    photo = np.asarray(Image.open(tmp_path / "set/images/3.png"))
    places = clip.encode_places(clip.see(photo))  # (D, u, v)
    said = torch.einsum("duv,cd->cuv", places, texts).argmax(0)
    assert (said[0] == 0).float().mean() > 0.9 and (said[-1] == 1).float().mean() > 0.9


def test_a_stopped_training_goes_on(labelled, deeplab, start, tmp_path, monkeypatch):
    whole, run = make_config(labelled, deeplab, steps=12), tmp_path / "run"
    train(whole, tmp_path / "whole", init=start)
    batches = Cells.batches

    def stop_at_seven(self, config, first):
        for step, batch in enumerate(batches(self, config, first), first):
            if step == 7:
                signal.raise_signal(signal.SIGINT)
            yield batch

    monkeypatch.setattr(Cells, "batches", stop_at_seven)
    with pytest.raises(KeyboardInterrupt):
        train(whole, run, init=start)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="go on with --resume"):
        train(whole, run, init=start)
    with pytest.raises(ValueError, match="train.seed"):
        other = replace(whole, train=replace(whole.train, seed=2))
        train(other, run, init=start, resume=True)
    train(whole, run, init=start, resume=True)
    one, other = (load_clip(str(each)).state_dict() for each in (tmp_path / "whole", run))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_seen_is_kept(labelled, deeplab, start, tmp_path, monkeypatch):
    config = make_config(labelled, deeplab, steps=1)
    config = replace(config, data=replace(config.data, cache=str(tmp_path / "seen")))
    clip = load_clip(str(start))
    first = read_cells(clip, config, frozenset())
    monkeypatch.setattr(clip, "see", None)  # the second time no photo is looked at
    again = read_cells(clip, config, frozenset())
    one, other = first.sources[0], again.sources[0]
    assert np.array_equal(one.cells, other.cells) and np.array_equal(one.label, other.label)
    assert one.cells.shape == (6 * 40, 320) and set(one.label) == {-1, 0, 1}


def test_a_label_can_be_ignored_though_it_has_a_name(labelled, deeplab, start):
    config = make_config(labelled, deeplab)
    ignoring = (LabelSource(**labelled, ignore_label=1),)
    config = replace(config, data=replace(config.data, sources=ignoring))
    cells = read_cells(load_clip(str(start)), config, frozenset())
    assert set(cells.sources[0].label) == {-1, 0}


def test_nouns_can_be_left_out(labelled, deeplab, start, tmp_path):
    (tmp_path / "unseen.txt").write_text("Road\n")
    config = make_config(labelled, deeplab, steps=2)
    data = replace(config.data, leave_out_nouns=str(tmp_path / "unseen.txt"))
    config = replace(config, data=data)
    cells = read_cells(load_clip(str(start)), config, frozenset({"road"}))
    assert cells.nouns == ("sky",)
    assert set(next(cells.batches(config, 0)).nouns.tolist()) == {-1, 0}
    train(config, tmp_path / "run", init=start)
    assert load_clip(str(tmp_path / "run")).config.taught == ("sky",)


def test_batches_are_those_of_their_steps(labelled, deeplab, start):
    config = make_config(labelled, deeplab, steps=5)
    cells = read_cells(load_clip(str(start)), config, frozenset())
    whole, late = list(cells.batches(config, 0)), list(cells.batches(config, 3))
    assert len(whole) == 5 and len(late) == 2
    for one, other in zip(whole[3:], late, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(whole[0].cells, whole[1].cells)


def test_what_does_not_fit_is_told_first(labelled, deeplab, start, tmp_path):
    config, run = make_config(labelled, deeplab), tmp_path / "run"
    with pytest.raises(ValueError, match="give its run or checkpoint by --init"):
        train(config, run)
    with pytest.raises(ValueError, match="must name the 2 classes"):
        train(replace(config, clip=replace(config.clip, rows=("sky",))), run, init=start)
    with pytest.raises(ValueError, match="set clip.deeplab"):
        train(replace(config, clip=HeadConfig()), run, init=start)
    with pytest.raises(ValueError, match="clip.width must be at least 1"):
        HeadConfig(width=0)
    headed = build_clip(ClipConfig(model=MODEL, photo_context=True, dense_width=8))
    save_clip(headed, tmp_path / "headed", {})
    with pytest.raises(ValueError, match="has a dense head 8 wide already"):
        train(config, run, init=tmp_path / "headed")
    with pytest.raises(ValueError, match="set data.sources"):
        train(replace(config, data=CellConfig()), run, init=start)
    with pytest.raises(ValueError, match="multiple of train.cells_per_photo, got 64 and 7"):
        make_config(labelled, deeplab, cells_per_photo=7)
    with pytest.raises(ValueError, match="names is not set"):
        LabelSource(labels="a", images="b")
    with pytest.raises(ValueError, match="needs a CLIP with a dense head"):
        evaluate(config, start)
    with pytest.raises(ValueError, match="set data.evaluate"):
        evaluate(replace(config, data=CellConfig()), start)
    plain = build_clip(ClipConfig(model=MODEL))
    save_clip(plain, tmp_path / "plain", {})
    with pytest.raises(ValueError, match="reads no whole photos"):
        train(config, run, init=tmp_path / "plain")
    assert not run.exists()
    with pytest.raises(DivergedError):
        train(make_config(labelled, deeplab, learning_rate=1e30), run, init=start)
