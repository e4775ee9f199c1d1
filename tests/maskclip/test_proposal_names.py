"""A proposal network that answers in a CLIP's space: trained, joined with that CLIP, used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskclip import Segmentor
from maskclip.checkpoint import load_clip, load_proposer
from maskclip.joining import join_parts
from maskclip.proposal_names import encode_training_names, train
from proposal.checkpoint_files import read_config, read_tensors
from proposal.configuration import load_config
from proposal.data.source_config import SourceConfig
from proposal.training_config import ProposalTraining

NAMES = ("red box|scarlet box", "green box", "sky")
COLOURS = ((200, 40, 40), (40, 200, 40), (90, 120, 220))
SETTINGS = [
    "proposer.backbone.type=timm:mobilenetv2_035",
    "proposer.hidden_dim=32",
    "proposer.dim_feedforward=32",
    "proposer.conv_dim=32",
    "proposer.mask_dim=16",
    "proposer.class_hidden_dim=32",
    "proposer.num_queries=4",
    "proposer.nheads=2",
    "proposer.dec_layers=1",
    "proposer.dropout=0",
    "proposer.short_side=64",
    "proposer.classifier=text",
    "criterion.mask_loss_stride=4",
    "train.iterations=40",
    "train.batch_size=4",
    "train.warmup_iterations=1",
    "train.lr=2e-3",
    "train.backbone_lr_factor=1",
    "train.clip_norm=1",
    "train.workers=0",
    "train.threads=1",
    "train.log_iterations=1",
    "data.sides=[64]",
    "data.augment.colour=false",
]


def write_data(folder: Path) -> None:
    """Six photos of a sky with a red or a green box, and their label maps."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for number in range(6):
        labels = np.full((64, 64), 2, dtype=np.uint8)
        left = 4 + 6 * number
        labels[20:50, left : left + 26] = number % 2
        photo = np.array(COLOURS, dtype=np.uint8)[labels]
        Image.fromarray(photo).save(folder / "images" / f"{number}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{number}.png")
    (folder / "names.txt").write_text("\n".join(NAMES))
    (folder / "config.yaml").write_text(
        f'data:\n  folders: {{here: "{folder}"}}\n  sources:\n    - {{images: "{{here}}/images", '
        'labels: "{here}/labels", names: "{here}/names.txt"}\n'
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


def tiny(data: Path, *settings: str) -> ProposalTraining:
    return load_config(ProposalTraining, data / "config.yaml", [*SETTINGS, *settings])


@pytest.fixture(scope="module")
def run(data, tiny_checkpoint, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "text"
    train(tiny(data, f"data.clip={tiny_checkpoint}"), folder)
    return folder


def test_the_names_are_where_the_clip_puts_them(run, tiny_checkpoint):
    tensors = read_tensors(run)
    texts = tensors["proposer.training_text_embeddings"]
    clip = load_clip(str(tiny_checkpoint))
    firsts, _ = clip.encode_names(["red box", "green box", "sky"])
    assert torch.allclose(texts, firsts, atol=1e-6)
    assert torch.allclose(encode_training_names(str(tiny_checkpoint), NAMES), texts)
    section = read_config(run)["proposer"]
    assert (section["training_names"], section["embed_dim"]) == (3, 16)


def test_only_no_object_is_learned_on_the_text_side(run, data, tiny_checkpoint, tmp_path):
    settings = [f"data.clip={tiny_checkpoint}", "train.lr=0", "train.iterations=1"]
    train(tiny(data, *settings), tmp_path / "still", init=run)
    before, after = read_tensors(run), read_tensors(tmp_path / "still")
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    train(tiny(data, *settings[:1], "train.iterations=2"), tmp_path / "moved", init=run)
    moved = read_tensors(tmp_path / "moved")
    assert not torch.equal(moved["proposer.no_object"], before["proposer.no_object"])
    name = "proposer.training_text_embeddings"
    assert torch.equal(moved[name], before[name])


def test_joined_with_its_clip_stage_1_alone_names_the_pixels(run, data, tiny_checkpoint, tmp_path):
    """The fusion weight 0 is stage 1 alone (SPEC 2.5): what the run learned decides."""
    join_parts(
        str(run), str(tiny_checkpoint), tmp_path / "model", overrides=["segmentor.fusion_weight=0"]
    )
    segmentor = Segmentor.from_pretrained(
        str(tmp_path / "model"), overrides=["segmentor.background=none"]
    )
    right = []
    for number in range(6):
        with Image.open(data / "images" / f"{number}.png") as photo:
            result = segmentor.segment(np.array(photo), list(NAMES))
        with Image.open(data / "labels" / f"{number}.png") as truth:
            right.append((result.labels == np.array(truth)).mean())
    assert np.mean(right) > 0.8


def test_a_clip_is_needed(data, tmp_path):
    with pytest.raises(ValueError, match="set data.clip, such as ViT-B-16/openai"):
        train(tiny(data), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def objects(data, tmp_path_factory) -> Path:
    """A run that only tells objects, of label maps and of masks without names."""
    folder = tmp_path_factory.mktemp("runs") / "objects"
    train(tiny(data, "proposer.classifier=objectness"), folder)
    return folder


@pytest.fixture(scope="module")
def headed(objects, data, tiny_checkpoint, tmp_path_factory) -> Path:
    """The same with a head for names on top, which alone was trained."""
    folder = tmp_path_factory.mktemp("runs") / "both"
    train(
        tiny(data, *BOTH, f"data.clip={tiny_checkpoint}", "train.ema_decay=0.9"),
        folder,
        init=objects,
    )
    return folder


BOTH = ["proposer.classifier=both", "train.only=[name_embed]", "train.lr=1e-2"]


def test_only_the_head_is_trained(objects, headed):
    """All else, so masks and scores, stays equal to the last bit, averaged weights included."""
    before, after = read_tensors(objects), read_tensors(headed)
    assert {name.split(".")[1] for name in after.keys() - before.keys()} == {"name_embed"}
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert read_config(headed)["proposer"]["embed_dim"] == 16
    photo = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    plain, both = (load_proposer(str(run)).propose(photo) for run in (objects, headed))
    assert torch.equal(plain.scores, both.scores)
    assert torch.equal(plain.mask_probs, both.mask_probs)


def test_the_head_goes_on_from_where_it_was(headed, data, tiny_checkpoint, tmp_path, caplog):
    settings = [*BOTH, f"data.clip={tiny_checkpoint}", "train.iterations=1", "train.lr=0"]
    with caplog.at_level("INFO", logger="proposal.training"):
        train(tiny(data, *settings), tmp_path / "again", init=headed)
    assert "name_embed" not in caplog.text
    before, after = read_tensors(headed), read_tensors(tmp_path / "again")
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize("names", [NAMES, ("sky", "crimson box|red box", "green box")])
@pytest.mark.parametrize("half", [False, True])
def test_objects_with_names_name_the_pixels(headed, data, tiny_checkpoint, tmp_path, names, half):
    """Stage 1 alone, through a checkpoint: names in another order, a synonym never heard."""
    overrides = ["segmentor.fusion_weight=0", "segmentor.background=none"]
    join_parts(
        str(headed), str(tiny_checkpoint), tmp_path / "model", overrides=overrides, half=half
    )
    segmentor = Segmentor.from_pretrained(str(tmp_path / "model"))
    first = {name.split("|")[-1].replace("scarlet", "red"): i for i, name in enumerate(names)}
    order = np.array([first[name] for name in ("red box", "green box", "sky")])
    right = []
    for number in range(6):
        with Image.open(data / "images" / f"{number}.png") as photo:
            result = segmentor.segment(np.array(photo), list(names))
        with Image.open(data / "labels" / f"{number}.png") as truth:
            right.append((result.labels == order[np.array(truth)]).mean())
    assert np.mean(right) > 0.8


def test_without_the_head_clip_alone_names(objects, tiny_checkpoint, tmp_path):
    """A proposer that only tells objects: the fusion weight changes nothing, as before."""
    join_parts(str(objects), str(tiny_checkpoint), tmp_path / "model")
    photo = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    maps = [
        Segmentor.from_pretrained(
            str(tmp_path / "model"), overrides=[f"segmentor.fusion_weight={weight}"]
        ).segment(photo, list(NAMES))
        for weight in (1, 0.3)
    ]
    assert np.array_equal(maps[0].labels, maps[1].labels)


def test_a_head_needs_some_names(data, tiny_checkpoint, tmp_path):
    config = tiny(data, *BOTH, f"data.clip={tiny_checkpoint}")
    source = {"images": "{here}/images", "regions": "{here}/labels"}
    nameless = replace(config, data=replace(config.data, sources=(SourceConfig(**source),)))
    with pytest.raises(ValueError, match="classifier=both needs names for some masks"):
        train(nameless, tmp_path / "out")
