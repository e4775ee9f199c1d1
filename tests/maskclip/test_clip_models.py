"""Every way to name a CLIP, and what is said where it cannot be had."""

import socket
from dataclasses import replace

import open_clip
import pytest
import torch

from maskclip.clip_config import ClipConfig
from maskclip.clip_models import (
    build_clip,
    build_tokenizer,
    from_openai_layout,
    nano_config,
)

TOWER = "maskclip_nano_32_w64_d1_s32"
SMALL = "ViT-S-32-alt"  # the smallest of open_clip's
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2},
    "text_cfg": {"width": 16, "heads": 1, "layers": 1},
}
OBLONG = TINY["vision_cfg"] | {"image_size": [32, 48]}


@pytest.fixture
def no_network(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_network")
def test_a_hybrid_comes_with_minilm_and_without_network(caplog, tmp_path, monkeypatch):
    monkeypatch.setenv("MASKCLIP_CACHE", str(tmp_path))
    clip = build_clip(TOWER)
    assert "image tower of maskclip_nano_32_w64_d1_s32 has random weights" in caplog.text
    assert (clip.side, clip.embed_dim) == (32, 384)
    assert len(clip.config.text_sha256) == 64
    assert clip.fill_colour.tolist() == [127.5] * 3
    assert clip.encode_names(["cat"])[0].shape == (1, 384)


def test_another_text_tower_than_the_one_trained_with_is_refused():
    with pytest.raises(
        ValueError, match=r"has SHA-256 [0-9a-f]{64}, but the model was made with 0"
    ):
        build_clip(replace(nano_config(TOWER), text_sha256="0" * 64))


def test_a_plain_name_gives_random_weights_with_a_warning(caplog):
    clip = build_clip(SMALL)
    assert f"{SMALL} has random weights" in caplog.text
    assert clip.side == 224
    assert clip.config.prompt_depth == 0
    assert clip.logit_scale == pytest.approx(1 / 0.07)


def test_a_local_file_fills_both_towers(tmp_path):
    torch.manual_seed(0)
    model = open_clip.create_model(SMALL)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    clip = build_clip(f"{SMALL}/{tmp_path / 'weights.pt'}")
    assert torch.equal(clip.tower.visual.conv1.weight, model.visual.conv1.weight)
    assert torch.equal(clip.text.token_embedding.weight, model.token_embedding.weight)
    again = build_clip(clip.config)
    again.load_state_dict(clip.state_dict())


def test_weights_that_do_not_fit_are_one_sentence(tmp_path):
    torch.save({"visual.conv1.weight": torch.zeros(1)}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="does not fit its config: it misses log") as caught:
        build_clip(f"{SMALL}/{tmp_path / 'weights.pt'}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({}, "lacks embed_dim, text_cfg, vision_cfg"),
        (TINY | {"embed": 1}, "unknown key embed: known are .*embed_dim"),
        (TINY | {"vision_cfg": {"widht": 1}}, "cannot build the model 'x'.*widht"),
        (TINY | {"vision_cfg": OBLONG}, r"\[32, 48\] crops: only squares"),
    ],
)
def test_a_model_that_open_clip_cannot_build_is_refused(model, words):
    with pytest.raises(ValueError, match=words):
        build_clip(ClipConfig(name="x", model=model))


def test_building_leaves_the_configuration_alone():
    config = nano_config(TOWER)
    before = repr(config)
    build_clip(config)
    assert repr(config) == before


@pytest.mark.parametrize("rows", [1, 16])
def test_the_original_layout_is_understood(rows):
    """Prompts may be one for all patches, (L, 1, E)."""
    model = open_clip.CLIP(**TINY)
    prompts = torch.randn(2, rows, 64)
    clip = build_clip(ClipConfig(name="x", model=TINY, prompt_depth=2))
    clip.load_state_dict(
        from_openai_layout(
            model.state_dict()
            | {"visual.mask_embedding": prompts, "context_length": torch.tensor(77)}
        )
    )
    assert torch.equal(clip.tower.prompts, prompts.expand(2, 16, 64))
    assert torch.equal(clip.text.ln_final.weight, model.ln_final.weight)


def test_the_tokenizer_of_a_plain_clip_is_open_clips():
    tokens = build_tokenizer({"context_length": 9})(["a cat"])
    assert tokens.tolist() == open_clip.tokenize(["a cat"], 9).tolist()
