"""What a step of stage 2 computes, and what it spares."""

from dataclasses import replace

import pytest
import torch

from maskclip.adaptation import train
from maskclip.adaptation.batches import Batch
from maskclip.adaptation.config import PairSource, TrainConfig
from maskclip.adaptation.pair_table import read_table
from maskclip.adaptation.parameters import build_optimizer
from maskclip.adaptation.teacher import RegionTeacher
from maskclip.clip_config import ClipConfig
from maskclip.clip_models import build_clip

VISION = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "head_width": 16}
TEXT = {"width": 16, "heads": 1, "layers": 1, "context_length": 24}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
CONVNEXT = {"timm_model_name": "convnext_atto", "timm_proj": "linear", "image_size": 64}
POOLED = VISION | {"pool_type": "avg", "no_ln_pre": True, "final_ln_after_pool": True}


def build(vision=VISION, **settings):
    torch.manual_seed(0)
    model = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": TEXT}
    return build_clip(ClipConfig(name="tiny", model=model, templates="single", **settings))


def gradients(clip, table, batch, **settings):
    config = TrainConfig(mode="joint" if clip.config.prompt_depth else "ft", **settings)
    optimizer = build_optimizer(clip, config)
    teacher = RegionTeacher(clip, table, config).train()
    if config.grad_checkpointing:
        clip.tower.set_grad_checkpointing()
    optimizer.zero_grad()
    (loss,) = teacher(batch).values()
    loss.backward()
    named = clip.named_parameters()
    return loss.item(), {name: p.grad.clone() for name, p in named if p.grad is not None}


@pytest.fixture
def table(colour_pairs):
    return read_table([PairSource(str(colour_pairs))])


def make_batch(side=32, count=5):
    generator = torch.Generator().manual_seed(1)
    crops = torch.rand(count, 3, side, side, generator=generator) * 255
    masks = torch.rand(count, side, side, generator=generator) > 0.999
    return Batch(crops, masks, torch.tensor([0, 1, 1, 0, 1])[:count])


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("how", [{"accumulate": 3}, {"grad_checkpointing": True}])
def test_less_memory_changes_no_gradient(table, how, depth):
    loss, expected = gradients(build(prompt_depth=depth), table, make_batch())
    found_loss, found = gradients(build(prompt_depth=depth), table, make_batch(), **how)
    assert found_loss == pytest.approx(loss, abs=1e-6) and found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)


def test_mixed_precision_is_near_full_precision(table):
    loss, expected = gradients(build(prompt_depth=2), table, make_batch())
    found_loss, found = gradients(build(prompt_depth=2), table, make_batch(), precision="bfloat16")
    assert found_loss == pytest.approx(loss, rel=0.02)
    assert found["tower.prompts"].dtype == torch.float32
    cosine = torch.cosine_similarity(
        found["tower.prompts"].flatten(), expected["tower.prompts"].flatten(), dim=0
    )
    assert cosine > 0.99


@pytest.mark.parametrize("vision", [RESNET, CONVNEXT, POOLED], ids=["resnet", "convnext", "mean"])
def test_any_tower_is_fine_tuned(table, vision):
    clip = build(vision)
    before = {name: value.clone() for name, value in clip.state_dict().items() if "running" in name}
    _, found = gradients(clip, table, make_batch(clip.side))
    named = clip.tower.visual.named_parameters()
    assert {f"tower.visual.{name}" for name, _ in named} <= found.keys()
    assert all(torch.equal(clip.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize("loss", ["multi_positive", "infonce", "vocabulary"])
def test_one_region_is_enough(table, loss):
    value, _ = gradients(build(), table, make_batch(count=1), loss=loss)
    assert value >= 0


def test_texts_can_be_taught_without_what_they_have_in_common(table):
    clip, plain = build(), TrainConfig()
    texts = RegionTeacher(clip, table, plain).texts(torch.arange(2))
    taught = RegionTeacher(clip, table, replace(plain, centre_texts=True)).texts(torch.arange(2))
    torch.testing.assert_close(taught[0], -taught[1])  # of two texts nothing else is left
    assert torch.dot(taught[0], texts[0]) > torch.dot(taught[0], texts[1])
    torch.testing.assert_close(taught.norm(dim=1), torch.ones(2))


def test_a_batch_is_not_cut_into_more_parts_than_it_has_regions(table):
    with pytest.raises(ValueError, match="at most the 5 regions"):
        gradients(build(), table, make_batch(), accumulate=6)


def test_no_text_is_read_in_the_loop(colour_pairs, start, config_for, tmp_path, monkeypatch):
    """Nouns are encoded once, or come from the cache; learned tokens read the batch's alone."""
    calls = []
    original = torch.nn.Embedding.forward

    def counted(self, tokens):
        calls.append(len(tokens))
        return original(self, tokens)

    monkeypatch.setattr(torch.nn.Embedding, "forward", counted)
    monkeypatch.setenv("MASKCLIP_CACHE", str(tmp_path / "cache"))  # other tests filled theirs
    config = config_for(colour_pairs, steps=4, loss="multi_positive")
    train(config, tmp_path / "cold", init=start)
    assert calls == [2]  # red and blue, in one template
    calls.clear()
    train(config, tmp_path / "warm", init=start)
    assert calls == []
    context = replace(config, clip=replace(config.clip, text_context=2))
    train(replace(context, train=replace(config.train, mode="mpt")), tmp_path / "on", init=start)
    assert calls == [2] * 6  # before, in 4 steps, and with what was learned
