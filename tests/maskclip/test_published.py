"""Published checkpoints of other shapes than those of shared/reference, random and written here."""

import dataclasses
import functools
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskclip.converting import convert_published
from maskclip.published import load_published
from maskclip.published_config import PRESETS, read_published_config
from maskclip.segmentor import Segmentor
from maskclip.segmentor_config import SegmentorConfig
from proposal.maskformer_proposer import MaskFormerProposer

ROOT = Path(__file__).resolve().parents[2]
RANDOM = runpy.run_path(str(ROOT / "tests" / "published_checkpoint.py"))
SWIN, RESNET, CLIP = RANDOM["SWIN"], RANDOM["RESNET"], RANDOM["CLIP"]
TOWER, TEXT = CLIP["vision_cfg"], CLIP["text_cfg"]
NAMES = ["cat", "sofa|couch", "floor"]
# What the weights do not tell of the networks made here
TOLD = {"nheads": 4, "short_side": 64, "max_size": 256, "mask_threshold": 0.5}
LARGER = {
    **CLIP,
    "embed_dim": 40,
    "vision_cfg": {**TOWER, "width": 128, "patch_size": 4, "layers": 2},
    "text_cfg": {**TEXT, "width": 128, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


def write(folder: Path, state: dict, told: dict, **beside: object) -> tuple[Path, Path]:
    """-> the checkpoint, its configuration."""
    checkpoint, config = folder / "x.pth", folder / "x.json"
    torch.save({"model": state, **beside}, checkpoint)
    config.write_text(json.dumps(told))
    return checkpoint, config


def make(
    *, prompts: int = 2, backbone: dict = SWIN, clip: dict = CLIP, **sizes: object
) -> tuple[Segmentor, dict]:
    """A Segmentor of random parts, and its weights by their published names."""
    torch.manual_seed(3)
    network = RANDOM["random_network"](backbone, embed_dim=clip["embed_dim"], **sizes)
    parts = RANDOM["random_clip"](prompts, clip)
    return Segmentor(MaskFormerProposer(network), parts), RANDOM["published_state"](network, parts)


@functools.cache
def usual() -> dict:
    """The weights of a checkpoint in which nothing is special."""
    return make()[1]


def assert_same(ours: Segmentor, other: Segmentor, image: np.ndarray) -> None:
    one, two = (
        each.segment(image, NAMES, return_scores=True, return_regions=True)
        for each in (ours, other)
    )
    assert torch.equal(one.regions.keep, two.regions.keep)
    torch.testing.assert_close(one.regions.mask_probs, two.regions.mask_probs)
    torch.testing.assert_close(one.regions.region_embeddings, two.regions.region_embeddings)
    torch.testing.assert_close(one.regions.text_embeddings, two.regions.text_embeddings)
    np.testing.assert_allclose(one.scores, two.scores, atol=1e-5)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({}, {}),
        ({"prompts": 1, "backbone": RESNET}, {"ensemble_weight": 0.45}),
        ({"prompts": 3, "clip": LARGER | {"vision_cfg": {**TOWER, "width": 128}}}, {}),
        ({"prompts": 2, "clip": LARGER, "num_queries": 3}, {"ensemble_weight": 1}),
        ({"prompts": 0}, {"mask_prompt_forward": False, "mask_prompt_depth": 3}),
        ({"prompts": 2}, {"mask_prompt_forward": False}),
        ({"prompts": 0, "backbone": SWIN | {"embed_dim": 4}}, {"ensemble_weight": 0}),
        ({"backbone": SWIN | {"window_size": 4}, "dec_layers": 3}, {"mask_threshold": 0.6}),
        ({"backbone": RESNET}, {"templates": "single", "mask_threshold": 0.9999999}),
    ],
)
def test_random_checkpoints_segment_as_the_networks_they_hold(parts, told, image, tmp_path):
    ours, state = make(**parts)
    told = TOLD | told
    checkpoint, config = write(tmp_path, state, told, iteration=7, optimizer={"lr": [0.1]})
    weight = told.get("ensemble_weight", 0.7)
    ours.config = SegmentorConfig(
        mask_threshold=told["mask_threshold"], fusion_weight=weight or 1.0, compat=True
    )
    fill = (0.48145466, 0.4578275, 0.40821073)
    changes = {"fill": fill, "templates": told.get("templates", "vild")}
    if told.get("mask_prompt_forward") is False:
        changes["mask_prompts"] = False
    ours.clip.config = dataclasses.replace(ours.clip.config, **changes)
    loaded = load_published(checkpoint, config)
    assert loaded.config == ours.config
    assert_same(ours, loaded, image)


def test_one_prompt_for_all_places_is_repeated(tmp_path):
    ours, state = make(prompts=2)
    key = "clip_adapter.clip_model.visual.mask_embedding"
    state[key] = state[key][:, :1]
    with torch.no_grad():
        ours.clip.tower.prompts.copy_(state[key].expand(-1, 16, -1))
    loaded = load_published(*write(tmp_path, state, TOLD))
    assert torch.equal(loaded.clip.tower.prompts, ours.clip.tower.prompts)


def test_statistics_of_the_adapter_count_and_the_fill_colour_stays(tmp_path):
    state = dict(usual())
    state["clip_adapter.pixel_mean"] = torch.tensor([255.0, 127.5, 0.0]).view(1, 3, 1, 1)
    state["clip_adapter.pixel_std"] = torch.tensor([51.0, 25.5, 255.0]).view(1, 3, 1, 1)
    clip = load_published(*write(tmp_path, state, TOLD)).clip
    assert clip.config.mean == pytest.approx((1.0, 0.5, 0.0))
    assert clip.config.std == pytest.approx((0.2, 0.1, 1.0))
    assert clip.fill_colour.tolist() == pytest.approx([122.770938, 116.746013, 104.093736])
    for name in ("pixel_mean", "pixel_std"):
        del state[f"clip_adapter.{name}"]
    plain = load_published(*write(tmp_path, state, TOLD)).clip
    assert plain.config.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))


def test_objectness_knows_the_training_names(image, tmp_path):
    ours, state = make()
    told = TOLD | {"training_names": ["cat", "dog", "sky", "a", "b", "c", "d", "e"]}
    loaded = load_published(*write(tmp_path, state, told))
    network = loaded.proposer.network
    texts = ours.clip.encode_names(told["training_names"])[0]
    torch.testing.assert_close(network.training_text_embeddings, texts)
    scores = loaded.proposer.propose(image).scores
    assert ((scores > 0) & (scores < 1)).any()
    unknown = load_published(*write(tmp_path, state, TOLD))
    assert unknown.proposer.propose(image).scores.tolist() == [1.0] * 7


def test_without_a_configuration_published_values_are_taken(tmp_path):
    _, state = make(nheads=8)
    checkpoint, _ = write(tmp_path, state, {})
    loaded = load_published(checkpoint)
    assert (loaded.config.mask_threshold, loaded.config.fusion_weight) == (0.4, 0.7)
    config = loaded.proposer.network.config
    assert (config.short_side, config.max_size, config.nheads) == (640, 2560, 8)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"num_queries": 100}, "num_queries is 100, but by their shapes the weights have 7"),
        ({"clip": {"vision_layers": 12}}, "clip.vision_layers is 12, .* have 3"),
        ({"clip": {"patch_size": 16}}, "clip.patch_size is 16, .* have 8"),
        ({"mask_prompt_depth": 3}, "mask_prompt_depth is 3, .* have 2"),
        ({"backbone": {"embed_dim": 128}}, "backbone.embed_dim is 128, .* have 16"),
        ({"training_names": ["cat"]}, "training_names are 1, but criterion.empty_weight is of 8"),
        ({"mask_treshold": 0.5}, "unknown key mask_treshold: known are .*mask_threshold"),
        ({"clip": {"widht": 5}}, "unknown key clip.widht: known are"),
        ({"mask_threshold": 2}, r"mask_threshold must be in \[0, 1\), got 2"),
        ({"ensemble_weight": -1}, r"x.json: ensemble_weight must be in \[0, 1\], got -1"),
        ({"short_side": "wide"}, "short_side"),
        ([1], "must be a mapping"),
    ],
)
def test_configurations_that_do_not_fit_are_refused(told, said, tmp_path):
    state = dict(usual())
    told = TOLD | told if isinstance(told, dict) else told
    with pytest.raises(ValueError, match=said):
        load_published(*write(tmp_path, state, told))


def test_prompts_that_are_wanted_and_missing_are_refused(tmp_path):
    _, state = make(prompts=0)
    told = TOLD | {"mask_prompt_forward": True}
    with pytest.raises(ValueError, match="mask_prompt_forward is true, but the weights have no"):
        load_published(*write(tmp_path, state, told))


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (lambda name: "clip_model" not in name, "no OVSeg checkpoint: it has no CLIP"),
        (lambda name: not name.startswith("sem_seg_head"), "it has no proposal network"),
        (lambda name: name.startswith("criterion"), "it has no proposal network"),
    ],
)
def test_other_checkpoints_are_told_apart(kept, said, tmp_path):
    state = dict(usual())
    some = {name: value for name, value in state.items() if kept(name)}
    with pytest.raises(ValueError, match=said):
        load_published(*write(tmp_path, some, TOLD))


def test_missing_and_unexpected_weights_of_both_parts_are_named_at_once(tmp_path):
    state = dict(usual())
    gone = [
        "backbone.norm2.weight",
        "clip_adapter.clip_model.ln_final.bias",
        "clip_adapter.clip_model.visual.positional_embedding",
        "clip_adapter.clip_model.token_embedding.weight",
    ]
    some = {name: value for name, value in state.items() if name not in gone}
    more = {"sem_seg_head.odd": torch.zeros(2), "clip_adapter.clip_model.odd": torch.zeros(2)}
    with pytest.raises(ValueError, match="misses") as caught:
        load_published(*write(tmp_path, some | more, TOLD))
    assert all(name in str(caught.value) for name in [*gone, *more])


def test_parts_of_two_models_are_refused(tmp_path):
    state = dict(usual())
    _, other = make(clip=LARGER)
    mixed = {**state, **{name: value for name, value in other.items() if "clip_model" in name}}
    with pytest.raises(ValueError, match="queries speak in 24 dimensions, its CLIP in 40"):
        load_published(*write(tmp_path, mixed, TOLD))


def test_a_converted_folder_needs_nothing_else_and_remembers_the_licence(image, tmp_path):
    state = dict(usual())
    checkpoint, config = write(tmp_path, state, TOLD)
    folder = tmp_path / "model"
    size = convert_published(
        checkpoint, folder, config=config, overrides=["segmentor.background=threshold:0.1"]
    )
    assert size == (folder / "model.safetensors").stat().st_size
    written = json.loads((folder / "config.json").read_text())
    assert written["provenance"]["license"] == "CC-BY-NC-4.0"
    assert written["provenance"]["converted_from"]["file"] == "x.pth"
    assert written["segmentor"]["compat"] is True
    before, after = load_published(checkpoint, config), Segmentor.from_pretrained(folder)
    before.config = after.config
    assert after.config.background == "threshold:0.1"
    assert after.name == "model"
    checkpoint.unlink()
    assert_same(before, after, image)


def test_a_folder_with_files_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="must be a new or empty folder"):
        convert_published(tmp_path / "x.pth", tmp_path)


def test_photos_without_any_valid_proposal_are_segmented(tmp_path):
    state = dict(usual())
    state["sem_seg_head.pixel_decoder.mask_features.bias"] = torch.zeros(16)
    state["sem_seg_head.pixel_decoder.mask_features.weight"] = torch.zeros(16, 32, 3, 3)
    photo = Image.new("RGB", (50, 40))
    for weight in (0.7, 0):
        told = TOLD | {"ensemble_weight": weight}
        result = load_published(*write(tmp_path, state, told)).segment(photo, NAMES)
        assert result.labels.shape == (40, 50)
        assert (result.labels == result.ignore).all() == (weight == 0)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_state_the_published_values(preset):
    config = read_published_config(preset)
    swin = preset == "ovseg-swinb-vitl14"
    assert config.variant == preset
    assert config.mask_threshold == (0.4 if swin else 0.5)
    assert (config.short_side, config.max_size) == ((640, 2560) if swin else (512, 2048))
    assert config.fusion_weight == 0.7
    assert config.clip.quick_gelu


def test_unknown_presets_are_refused_with_the_known_ones():
    with pytest.raises(FileNotFoundError, match="one of ovseg-r101c-vitb16, ovseg-swinb-vitl14"):
        read_published_config("ovseg-swinb")
