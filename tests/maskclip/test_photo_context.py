"""What is seen of the whole photo beside a crop."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from maskclip.clip import MaskClip
from maskclip.clip_config import ClipConfig
from maskclip.clip_models import build_clip
from maskclip.photo_context import CHANNELS, STRIDE, PhotoContext
from maskclip.region_accuracy import classify_masks
from maskclip.segmentor import Segmentor
from proposal.proposals import Proposals

SIDE = 32
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": SIDE, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    "text_cfg": {"width": 16, "heads": 1, "layers": 1, "context_length": 24},
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MASKCLIP_CACHE", str(tmp_path / "cache"))


def build(depth: int = 2, *, photo_context: bool = True, detector: bool = False) -> MaskClip:
    torch.manual_seed(0)
    config = ClipConfig(
        name="tiny",
        model=TINY,
        prompt_depth=depth,
        photo_context=photo_context,
        photo_detector=detector,
        templates="single",
        background="keep",
    )
    return build_clip(config)


def random_photo(height: int = 60, width: int = 90) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("size_hw", "grid"), [((60, 90), (8, 12)), ((400, 1026), (13, 33))])
def test_a_photo_is_read_at_the_size_of_the_trunk_s_training(size_hw, grid):
    seen = PhotoContext().see(random_photo(*size_hw))
    assert seen.shape == (CHANNELS, *grid)  # twice as large, or the long side 513
    assert 513 // STRIDE + 1 == 33


def test_regions_pool_what_lies_in_them():
    context = PhotoContext()
    seen = torch.zeros(CHANNELS, 2, 4)
    seen[:, :, 2:] = 1
    masks = torch.zeros(3, 8, 16, dtype=torch.bool)
    masks[0, :, 8:] = True  # the right half
    masks[1] = True
    pooled = context.pool(seen, masks)
    assert pooled.shape == (3, 2, CHANNELS)
    torch.testing.assert_close(pooled[:, 0, 0], torch.tensor([1.0, 0.5, 0.0]))  # no pixel: zeros
    torch.testing.assert_close(pooled[:, 1], torch.full((3, CHANNELS), 0.5))


def test_a_detector_s_map_lies_behind_on_the_same_grid():
    torch.manual_seed(0)
    both, photo = PhotoContext(detector_too=True), random_photo(400, 1026)
    seen = both.see(photo)
    assert seen.shape == (CHANNELS + 384, 13, 33)
    assert both.shape == (2, CHANNELS + 384)
    alone = PhotoContext()
    alone.trunk.load_state_dict(both.trunk.state_dict())
    torch.testing.assert_close(seen[:CHANNELS], alone.see(photo), atol=1e-3, rtol=0)
    pooled = both.pool(seen, torch.ones(1, 400, 1026, dtype=torch.bool))
    torch.testing.assert_close(pooled[0, 0], seen.mean(dim=(1, 2)), atol=1e-4, rtol=0)


@torch.no_grad()
def test_what_the_detector_saw_counts_too():
    clip = build(detector=True)
    crops, masks = torch.rand(2, 3, SIDE, SIDE) * 255, torch.rand(2, SIDE, SIDE) > 0.5
    one = torch.randn(2, 2, CHANNELS + 384)
    other = one.clone()
    other[:, :, CHANNELS:] = torch.randn(2, 2, 384)
    embeddings = clip.encode_regions(crops, masks, one)
    assert not torch.allclose(embeddings, clip.encode_regions(crops, masks, other), atol=1e-3)


@pytest.mark.parametrize("depth", [0, 1, 2])
@torch.no_grad()
def test_a_crop_means_something_else_in_another_photo(depth):
    clip = build(depth)
    crops, masks = torch.rand(3, 3, SIDE, SIDE) * 255, torch.rand(3, SIDE, SIDE) > 0.5
    one, other = torch.zeros(3, 2, CHANNELS), torch.randn(3, 2, CHANNELS)
    embeddings = clip.encode_regions(crops, masks, one)
    assert embeddings.shape == (3, 16)
    assert not torch.allclose(embeddings, clip.encode_regions(crops, masks, other), atol=1e-3)
    chunked = clip.encode_regions(crops, masks, one, batch_size=2)
    torch.testing.assert_close(chunked, embeddings, atol=1e-6, rtol=0)
    assert clip.encode_regions(crops[:0], masks[:0], one[:0]).shape == (0, 16)


@torch.no_grad()
def test_prompts_do_not_replace_the_context():
    clip = build(2)
    crops, nothing = torch.rand(2, 3, SIDE, SIDE), torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    one = clip.encode_regions(crops, nothing, torch.zeros(2, 2, CHANNELS))
    other = clip.encode_regions(crops, nothing, torch.randn(2, 2, CHANNELS))
    assert not torch.allclose(one, other, atol=1e-3)


def test_towers_say_what_they_need():
    crops, masks = torch.rand(1, 3, SIDE, SIDE), torch.ones(1, SIDE, SIDE, dtype=torch.bool)
    with pytest.raises(ValueError, match="this tower needs photo context with its crops, got none"):
        build().encode_regions(crops, masks)
    with pytest.raises(ValueError, match="this tower takes no photo context with its crops"):
        build(photo_context=False).encode_regions(crops, masks, torch.zeros(1, 2, CHANNELS))


@torch.no_grad()
def test_the_segmentor_shows_each_region_with_its_photo():
    clip, photo = build(), random_photo()
    masks = np.zeros((2, 60, 90), dtype=bool)
    masks[0, :30], masks[1, 30:] = True, True
    proposals = Proposals(torch.from_numpy(masks).float(), torch.ones(2))
    segmentor = Segmentor(proposer=None, clip=clip)
    probs = segmentor.classify(photo, proposals, ["a", "b"])
    logits = classify_masks(clip, photo, masks, ["a", "b"])
    torch.testing.assert_close(probs, logits.softmax(1))
    darker = Segmentor(None, clip).classify(photo // 4, proposals, ["a", "b"])
    assert not torch.allclose(darker, probs)


@torch.no_grad()
def test_photos_without_proposals_are_not_read(monkeypatch):
    clip = build()
    monkeypatch.setattr(clip, "see", lambda _: pytest.fail("read for nothing"))
    nothing = Proposals(torch.zeros(0, 60, 90), torch.zeros(0))
    assert Segmentor(None, clip).classify(random_photo(), nothing, ["a"]).shape == (0, 1)


def test_the_trunk_stays_frozen_and_in_evaluation_mode():
    clip = build()
    assert not any(p.requires_grad for p in clip.photo_context.parameters())
    clip.train()
    assert not any(module.training for module in clip.photo_context.modules())
    assert clip.tower.context.training


@pytest.mark.parametrize("detector", [False, True])
def test_a_checkpoint_keeps_it(tmp_path, detector):
    from maskclip.checkpoint import load_clip
    from maskclip.clip_folder import save_clip

    clip = build(detector=detector)
    save_clip(clip, tmp_path / "run", {})
    again = load_clip(str(tmp_path / "run"))
    photo = random_photo()
    assert again.config == clip.config
    weights, read = clip.state_dict(), again.state_dict()
    assert all(torch.equal(read[name], value) for name, value in weights.items())
    # A convolution's last bits depend on where in memory its weights lie
    torch.testing.assert_close(again.see(photo), clip.see(photo), atol=1e-3, rtol=0)


def test_a_clip_may_begin_to_read_photos(shared, tmp_path):
    from maskclip.adaptation.config import TowerConfig
    from maskclip.adaptation.starting import start_clip
    from maskclip.clip_folder import save_clip

    trunk = str(shared / "weights" / "mobilenetv2_100_voc_deeplab.safetensors")
    plain = build(photo_context=False)
    save_clip(plain, tmp_path / "plain", {})
    clip = start_clip(TowerConfig(photo_context=trunk), tmp_path / "plain")
    assert clip.config == replace(plain.config, photo_context=True, prompt_depth=2)
    assert torch.equal(clip.tower.prompts, plain.tower.prompts)
    expected = PhotoContext()
    expected.load(trunk)
    photo = np.asarray(Image.fromarray(random_photo()).resize((64, 64)))
    torch.testing.assert_close(clip.see(photo), expected.see(photo), atol=1e-3, rtol=0)


def test_a_clip_that_reads_photos_may_get_a_detector(tmp_path):
    from maskclip.adaptation.config import TowerConfig
    from maskclip.adaptation.starting import start_clip
    from maskclip.clip_folder import save_clip
    from maskclip.detector import Detector
    from tests.maskclip.test_detector import write_weights

    stored, detector = build(), Detector()
    save_clip(stored, tmp_path / "stored", {})
    weights = write_weights(tmp_path / "nanodet.json", detector)
    clip = start_clip(TowerConfig(photo_detector=str(weights)), tmp_path / "stored")
    assert clip.config == replace(stored.config, photo_detector=True)
    before = stored.state_dict()
    after = clip.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    stem = clip.photo_context.detector.stem.weight
    torch.testing.assert_close(stem, detector.stem.weight, atol=1e-3, rtol=0)
    with pytest.raises(FileNotFoundError, match="there is no TensorFlow.js graph model"):
        start_clip(TowerConfig(photo_detector="nothing.json"), tmp_path / "stored")


def test_a_detector_needs_the_grid_of_the_other_trunk():
    with pytest.raises(ValueError, match="photo_detector needs photo_context"):
        ClipConfig(photo_detector=True)
