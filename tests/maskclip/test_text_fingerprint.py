"""What tells one text tower from another."""

import pytest
import torch
from open_clip import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.tokenizer import SimpleTokenizer

from maskclip.text_fingerprint import _describe, fingerprint_text, weights_stamp

VISION = CLIPVisionCfg(layers=1, width=32, head_width=16, patch_size=8, image_size=16)
TOKENIZER = SimpleTokenizer(context_length=20)


def build(heads: int = 2, quick_gelu: bool = False, seed: int = 0) -> CLIP:
    torch.manual_seed(seed)
    text = CLIPTextCfg(context_length=20, vocab_size=49408, width=16, heads=heads, layers=1)
    return CLIP(8, VISION, text, quick_gelu=quick_gelu)


def test_equal_towers_have_equal_fingerprints():
    assert fingerprint_text(build(), TOKENIZER) == fingerprint_text(build(), TOKENIZER)


@pytest.mark.parametrize(
    ("model", "tokenizer"),
    [
        (build(seed=1), TOKENIZER),
        (build(heads=4), TOKENIZER),
        (build(quick_gelu=True), TOKENIZER),
        (build().half(), TOKENIZER),
        (build(), SimpleTokenizer(context_length=19)),
        (build(), SimpleTokenizer(context_length=20, clean="whitespace")),
    ],
    ids=["weights", "heads", "activation", "precision", "context", "tokenizer"],
)
def test_whatever_changes_embeddings_changes_the_fingerprint(model, tokenizer):
    assert fingerprint_text(model, tokenizer) != fingerprint_text(build(), TOKENIZER)


def test_the_image_tower_and_training_mode_do_not_matter():
    model = build()
    before = fingerprint_text(model, TOKENIZER)
    with torch.no_grad():
        model.visual.proj += 1
        model.logit_scale += 1
    assert fingerprint_text(model.eval(), TOKENIZER) == before


def test_a_written_weight_changes_the_stamp():
    model = build()
    before = weights_stamp(model)
    assert weights_stamp(model) == before
    with torch.no_grad():
        model.ln_final.weight[0] = 2
    assert weights_stamp(model) != before


def test_loaded_weights_change_the_stamp():
    model = build()
    before = weights_stamp(model)
    model.load_state_dict(build(seed=1).state_dict())
    assert weights_stamp(model) != before


def test_no_memory_address_slips_in():
    """Else no other process would ever find what this one has cached."""
    described = [_describe(module) for module in build(quick_gelu=True).modules()]
    assert any("num_heads" in line for line in described)
    assert not any("0x" in line for line in described)
