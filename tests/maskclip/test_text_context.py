import pytest
import torch
from open_clip import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.tokenizer import SimpleTokenizer

from maskclip.clip_config import ClipConfig
from maskclip.clip_models import build_clip, nano_config
from maskclip.names import parse_names
from maskclip.text import TextEncoder
from maskclip.text_cache import TextCache
from maskclip.text_context import TextContext

VISION = {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16}
TEXT = {"width": 32, "heads": 2, "layers": 2, "context_length": 24}
MODEL = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}
TOKENIZER = SimpleTokenizer(context_length=24)
NAMES = ["cat", "x-ray", "a person riding a very tall horse"]


def build_encoder(tmp_path, count: int) -> TextEncoder:
    torch.manual_seed(0)
    vision = CLIPVisionCfg(layers=1, width=32, head_width=16, patch_size=8, image_size=16)
    model = CLIP(16, vision, CLIPTextCfg(context_length=24, width=32, heads=2, layers=2)).eval()
    context = TextContext(count, model, TOKENIZER) if count else None
    return TextEncoder(model, TOKENIZER, cache=TextCache(tmp_path), context=context)


def test_a_context_that_starts_as_words_reads_as_these_words(tmp_path):
    plain, learned = build_encoder(tmp_path, 0), build_encoder(tmp_path, 4)
    learned.context.begin(learned.model, TOKENIZER)
    expected = plain.encode_names(parse_names(NAMES), ["a photo of a {}."])
    torch.testing.assert_close(learned.encode_names(parse_names(NAMES), ["ignored {}"]), expected)
    torch.testing.assert_close(learned.learn_names(NAMES).detach(), expected)


@pytest.mark.parametrize(("count", "words"), [(2, "of a"), (1, "a")])
def test_a_short_context_starts_as_the_last_words(tmp_path, count, words):
    learned = build_encoder(tmp_path, count)
    learned.context.begin(learned.model, TOKENIZER)
    expected = build_encoder(tmp_path, 0).encode_names(parse_names(["cat"]), [f"{words} {{}}."])
    torch.testing.assert_close(learned.encode_names(parse_names(["cat"]), [""]), expected)


def test_a_changed_context_is_another_text_tower(tmp_path):
    encoder = build_encoder(tmp_path, 4)
    before, key = encoder.encode_names(parse_names(NAMES), [""]), encoder.fingerprint
    with torch.no_grad():
        encoder.context.tokens.normal_()
    assert encoder.fingerprint != key
    assert (encoder.encode_names(parse_names(NAMES), [""]) - before).abs().max() > 1e-3


def test_only_the_context_learns(tmp_path):
    encoder = build_encoder(tmp_path, 3)
    encoder.model.requires_grad_(False)
    assert encoder.learn_names([]).shape == (0, 16)
    encoder.learn_names(NAMES)[:, 0].sum().backward()
    assert encoder.context.tokens.grad.abs().min() >= 0
    assert encoder.context.tokens.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in encoder.model.parameters())


def test_a_sentence_encoder_takes_a_context_too():
    clip = build_clip(ClipConfig(**(vars(nano_config("maskclip_nano_64_w64_d1_s32")))))
    context = TextContext(4, clip.text_encoder.model, clip.text_encoder.tokenizer)
    context.begin(clip.text_encoder.model, clip.text_encoder.tokenizer)
    expected, _ = clip.encode_names(NAMES)
    clip.text_encoder.context = context
    found = clip.text_encoder.encode_names(parse_names(NAMES), [""])
    assert (found * expected).sum(1).min() > 0.7  # one template against the mean of 14
    one = clip.text_encoder.learn_names(["cat"])
    torch.testing.assert_close(one[0].detach(), found[0])


def test_a_clip_keeps_its_context():
    clip = build_clip(ClipConfig(name="tiny", model=MODEL, text_context=2))
    assert clip.state_dict()["text_context.tokens"].shape == (2, 32)
    before, _ = clip.encode_names(NAMES)
    with torch.no_grad():
        clip.text_context.tokens.normal_()
    assert (clip.encode_names(NAMES)[0] - before).abs().max() > 1e-3  # no stale memory of names


def test_no_room_is_said(tmp_path):
    with pytest.raises(ValueError, match="leave room for names in the 24 tokens"):
        build_encoder(tmp_path, 40)
