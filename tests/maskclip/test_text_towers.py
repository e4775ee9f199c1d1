"""Text towers on a context cut to the prompts: the same embeddings as on the full one."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from open_clip import CLIP, CLIPTextCfg, CLIPVisionCfg, CoCa, CustomTextCLIP
from open_clip.coca_model import MultimodalCfg
from open_clip.hf_model import HFTextEncoder
from open_clip.tokenizer import SimpleTokenizer
from torch import nn
from transformers import BertConfig

from maskclip.text_towers import context_length, encode_tokens, prompt_lengths

VISION = CLIPVisionCfg(layers=1, width=32, head_width=16, patch_size=8, image_size=16)
PROMPTS = ["a cat", "a photo of a very large dining table in the scene.", "!!! wow !", ""]
END = 49407
TOKENIZER = SimpleTokenizer(context_length=24)


def text_cfg(**settings) -> CLIPTextCfg:
    return CLIPTextCfg(context_length=24, vocab_size=49408, width=32, heads=2, layers=2, **settings)


def bert_clip(pooler: str = "mean_pooler") -> nn.Module:
    """What open_clip makes of a Hugging Face text tower, without files."""
    config = BertConfig(
        vocab_size=49408,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        pad_token_id=0,
        initializer_range=0.2,  # so that prompts differ even at their class token
    )
    model = CustomTextCLIP(16, VISION, text_cfg())
    model.text = HFTextEncoder("", 16, config, pooler_type=pooler, proj_type="mlp")
    return model


BUILDERS = {
    "clip": lambda: CLIP(16, VISION, text_cfg()),
    "clip, quick gelu": lambda: CLIP(16, VISION, text_cfg(), quick_gelu=True),
    "clip, end token, biased projection": lambda: CLIP(
        16, VISION, text_cfg(pool_type="eos", eos_id=END, proj_bias=True)
    ),
    "custom": lambda: CustomTextCLIP(16, VISION, text_cfg()),
    "custom, end token": lambda: CustomTextCLIP(
        16, VISION, text_cfg(pool_type="eos", eos_id=END, output_tokens=True)
    ),
    "custom, block with norms": lambda: CustomTextCLIP(16, VISION, text_cfg(qk_norm=True)),
    "bert, mean": bert_clip,
    "bert, class token": lambda: bert_clip("cls_last_hidden_state_pooler"),
    "siglip": lambda: CustomTextCLIP(
        16, VISION, text_cfg(no_causal_mask=True, pool_type="last", proj_bias=True)
    ),
    "clipa": lambda: CLIP(16, VISION, text_cfg(no_causal_mask=True, pool_type="last")),
    "last token": lambda: CustomTextCLIP(16, VISION, text_cfg(pool_type="last")),
    "class token": lambda: CustomTextCLIP(16, VISION, text_cfg(embed_cls=True)),
    "coca": lambda: CoCa(
        16,
        MultimodalCfg(context_length=24, width=32, heads=2, layers=1),
        text_cfg(embed_cls=True, output_tokens=True),
        VISION,
    ),
}
FULL_LENGTH = ("siglip", "clipa", "last token", "class token", "coca")


def build(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return BUILDERS[kind]().eval()


def tokenize(model: nn.Module) -> torch.Tensor:
    return TOKENIZER(PROMPTS, context_length=context_length(model, TOKENIZER))  # (4, 24)


@pytest.mark.parametrize("kind", BUILDERS)
def test_cut_context_equals_full_length(kind):
    model = build(kind)
    tokens = tokenize(model)
    lengths = prompt_lengths(model, tokens).tolist()
    # Only where padding is ignored: start, "a", "cat", end are 4 tokens; "" has two
    assert (lengths[0], lengths[3]) == ((24, 24) if kind in FULL_LENGTH else (4, 2))
    with torch.no_grad():
        full = model.encode_text(tokens)
        full = full[0] if isinstance(full, tuple) else full  # (4, 16)
        for row, length in enumerate(lengths):
            cut = encode_tokens(model, tokens[row : row + 1, :length])  # (1, 16)
            assert (cut - full[row]).abs().max() < 1e-5
    assert full.std(0).min() > 1e-3  # the prompts do differ


def test_a_pooler_that_sees_padding_keeps_the_full_length():
    model = build("bert, mean")
    model.text.pooler = nn.Identity()
    assert prompt_lengths(model, tokenize(model)).tolist() == [24] * 4


def test_a_hugging_face_tower_leaves_the_context_to_its_tokenizer():
    assert context_length(build("bert, mean"), SimpleNamespace(context_length=9)) == 9
    assert context_length(build("custom"), SimpleNamespace(context_length=9)) == 24


@pytest.mark.parametrize("kind", ["clip", "custom"])
def test_threads_may_use_different_lengths_at_once(kind):
    model = build(kind)
    tokens = tokenize(model)
    lengths = [4, 6, 14, 24] * 5
    with torch.no_grad():
        expected = [encode_tokens(model, tokens[:1, :length]) for length in lengths]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda n: encode(model, tokens[:1, :n]), lengths))
    for some, others in zip(found, expected, strict=True):
        torch.testing.assert_close(some, others, atol=1e-6, rtol=0)
    assert model.encode_text(tokens).shape == (4, 16)  # nothing was left cut


def encode(model, tokens):
    with torch.no_grad():  # each thread has its own setting
        return encode_tokens(model, tokens)
