"""Both stages joined, on tiny random models."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskclip.assemble import weigh_masks
from maskclip.clip import NEAR
from maskclip.segmentor import Segmentor, SegmentorConfig
from proposal.proposals import Proposals

NAMES = ["cat", "sofa|couch", "floor"]


class GivenProposals:
    """A proposer that proposes what it was given, whatever the photo."""

    def __init__(self, proposals: Proposals) -> None:
        self.proposals = proposals

    def propose(self, _: np.ndarray) -> Proposals:
        return self.proposals


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MASKCLIP_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def segmentor(tiny_checkpoint) -> Segmentor:
    return Segmentor.from_pretrained(tiny_checkpoint)


def make_photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def with_proposals(segmentor: Segmentor, proposals: Proposals, **settings) -> Segmentor:
    return Segmentor(GivenProposals(proposals), segmentor.clip, SegmentorConfig(**settings))


def speaking_proposals(embeddings: torch.Tensor) -> Proposals:
    """Four quarters of a photo, of which the last has no pixel above the threshold."""
    mask_probs = torch.zeros(4, 8, 8)
    for index, (y, x) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
        mask_probs[index, y : y + 4, x : x + 4] = 0.9 if index < 3 else 0.4
    return Proposals(mask_probs, torch.ones(4), embeddings, torch.zeros(16))


def test_a_result_holds_what_was_asked_for(segmentor):
    photo = make_photo(40, 60)
    before = photo.copy()
    names = list(NAMES)
    result = segmentor.segment(photo, names, return_scores=True, return_regions=True)
    assert names == NAMES
    assert np.array_equal(photo, before)
    assert result.labels.shape == result.confidence.shape == (40, 60)
    assert result.names == tuple(NAMES)
    assert result.ignore == 255
    assert result.scores.shape == (3, 40, 60)
    assert np.array_equal(result.scores.argmax(0), result.labels)
    assert result.model["name"] == "tiny"
    assert result.model["proposer"] == "maskformer"
    assert set(result.milliseconds) == {"propose", "crop", "clip", "assemble", "total"}
    regions = result.regions
    assert regions.class_probs.shape == (5, 3)
    assert regions.text_embeddings.shape == (4, 16)
    assert len(regions.region_embeddings) == regions.keep.sum()
    plain = segmentor.segment(photo, names)
    assert plain.scores is None
    assert plain.regions is None


@pytest.mark.parametrize("compat", [False, True])
def test_alone_or_in_a_batch_the_answer_is_the_same(tiny_checkpoint, compat):
    segmentor = Segmentor.from_pretrained(
        tiny_checkpoint, overrides=[f"segmentor.compat={compat}", "segmentor.clip_batch_size=3"]
    )
    photos = [make_photo(40, 60), make_photo(70, 50), make_photo(41, 60), make_photo(1, 1)]
    together = segmentor.segment_batch(photos, NAMES)
    for photo, batched in zip(photos, together, strict=True):
        alone = segmentor.segment(photo, NAMES)
        assert (alone.labels != batched.labels).mean() < 0.01
        assert np.allclose(alone.confidence, batched.confidence, atol=1e-4)
    assert segmentor.segment_batch([], NAMES) == []


@pytest.mark.parametrize("background", ["none", "threshold:0.5", "sky"])
@pytest.mark.parametrize("fusion_weight", [0.5, 1.0])
def test_no_proposals_is_an_empty_result(segmentor, background, fusion_weight):
    settings = {"background": background, "fusion_weight": fusion_weight}
    empty = with_proposals(segmentor, Proposals.empty((6, 8)), **settings)
    result = empty.segment(make_photo(30, 40), NAMES, return_scores=True, return_regions=True)
    assert (result.labels == 255).all()
    assert result.segments == []
    assert result.scores.shape == (3, 30, 40)
    assert result.regions.region_embeddings.shape == (0, 16)


@pytest.mark.parametrize("compat", [False, True])
def test_no_valid_region_is_an_empty_result(segmentor, compat):
    weak = Proposals(torch.full((3, 6, 8), 0.4), torch.ones(3))
    result = with_proposals(segmentor, weak, compat=compat).segment(make_photo(30, 40), NAMES)
    assert (result.labels == 255).all()
    assert result.segments == []


@pytest.mark.parametrize("compat", [False, True])
def test_one_region(segmentor, compat):
    one = Proposals(torch.full((1, 6, 8), 0.8), torch.ones(1))
    result = with_proposals(segmentor, one, compat=compat).segment(make_photo(30, 40), NAMES)
    assert len(result.segments) == 1
    assert result.segments[0].area == 30 * 40


@pytest.mark.parametrize(("compat", "power"), [(True, 0.5), (False, 1.0)])
def test_fusion_with_stage_1(segmentor, compat, power):
    """The proposal without a crop: stage 1 alone, as published to the power of 1 - w."""
    texts, _ = segmentor.clip.encode_names(NAMES)
    proposals = speaking_proposals(texts[[0, 1, 3, 3]])
    fused = with_proposals(segmentor, proposals, fusion_weight=0.5, compat=compat)
    class_probs = fused.classify(make_photo(16, 16), proposals, NAMES)
    logits = 100 * texts @ texts[3]  # (K,)
    logits = torch.stack([logits[0], logits[1:3].max(), logits[3], torch.tensor(0.0)])
    alone = logits.softmax(0)[:3]
    assert torch.allclose(class_probs[3], alone**power, atol=1e-5)
    result = fused.segment(make_photo(16, 16), NAMES)
    assert (result.labels[8:, 8:] == class_probs[3].argmax().item()).all()


def test_stage_1_of_another_space_is_refused(segmentor):
    proposals = Proposals(torch.ones(1, 4, 4), torch.ones(1), torch.ones(1, 7), torch.ones(7))
    with pytest.raises(ValueError, match="7 dimensions, this CLIP in 16"):
        with_proposals(segmentor, proposals, fusion_weight=0.5).segment(make_photo(8, 8), NAMES)
    with_proposals(segmentor, proposals).segment(make_photo(8, 8), NAMES)


def test_background_names_win_pixels_but_no_segments(tiny_checkpoint):
    setting = "segmentor.background=floor,sofa|couch"
    segmentor = Segmentor.from_pretrained(tiny_checkpoint, overrides=[setting])
    photo = make_photo(40, 60)
    plain = Segmentor.from_pretrained(tiny_checkpoint).segment(photo, ["cat", *NAMES[1:]])
    result = segmentor.segment(photo, ["cat"], return_regions=True, return_scores=True)
    assert result.names == ("cat",)
    assert np.array_equal(result.labels == 0, plain.labels == 0)
    assert result.regions.class_probs.shape == (5, 1)
    assert result.regions.text_embeddings.shape == (1, 16)
    assert result.scores.shape == (1, 40, 60)


def test_pixels_below_the_threshold_are_ignored(tiny_checkpoint):
    photo = make_photo(40, 60)
    plain = Segmentor.from_pretrained(tiny_checkpoint).segment(photo, NAMES)
    middle = float(np.median(plain.confidence))
    setting = f"segmentor.background=threshold:{middle:.6f}"
    result = Segmentor.from_pretrained(tiny_checkpoint, overrides=[setting]).segment(photo, NAMES)
    below = plain.confidence < np.float32(round(middle, 6))
    assert 0 < below.mean() < 1
    assert np.array_equal(result.labels, np.where(below, 255, plain.labels))


def test_names_without_training_can_have_a_head_start(tiny_checkpoint):
    segmentor = Segmentor.from_pretrained(tiny_checkpoint, overrides=["segmentor.fusion_weight=1"])
    clip, photo = segmentor.clip, make_photo(40, 60)
    cat, _, couch, floor = clip.encode_names(NAMES)[0]
    assert max(cat @ couch, cat @ floor) < NEAR < couch @ couch  # else the test tells nothing
    plain = segmentor.segment(photo, NAMES, return_regions=True).regions.class_probs
    config = segmentor.config
    segmentor.config = replace(config, head_start=0.05)
    with pytest.raises(ValueError, match="lists the nouns it was trained on"):
        segmentor.segment(photo, NAMES)
    with pytest.raises(ValueError, match="lists the nouns it was trained on"):  # before any photo
        Segmentor.from_pretrained(tiny_checkpoint, overrides=["segmentor.head_start=0.05"])
    clip.change(replace(clip.config, taught=("couch", "floor")))
    probs = segmentor.segment(photo, NAMES, return_regions=True).regions.class_probs
    odds = torch.log(probs / plain)
    gained = odds[:, 0] - odds[:, 2]  # cat is new, floor is not, and neither is sofa|couch
    torch.testing.assert_close(gained, torch.full_like(gained, 0.05 * clip.logit_scale))
    torch.testing.assert_close(odds[:, 1], odds[:, 2])
    clip.change(replace(clip.config, taught=("cat", "sofa", "floor")))
    again = segmentor.segment(photo, NAMES, return_regions=True).regions.class_probs
    torch.testing.assert_close(again, plain)


def test_weak_masks_may_count_less(segmentor):
    """Score 0.1 against 1: squared, the weak one keeps a hundredth of its say."""
    proposals = Proposals(torch.ones(2, 4, 4), torch.tensor([0.1, 1.0]))
    alike = with_proposals(segmentor, proposals).segment(
        make_photo(9, 9), NAMES, return_scores=True
    )
    weighed = with_proposals(segmentor, proposals, objectness_power=2.0)
    result = weighed.segment(make_photo(9, 9), NAMES, return_scores=True)
    assert alike.scores.sum(0) == pytest.approx(2.0, abs=1e-4)
    assert result.scores.sum(0) == pytest.approx(1.01, abs=1e-4)


def test_sure_and_small_masks_may_count_more():
    masks = torch.zeros(3, 4, 4)
    masks[0], masks[1, 0], masks[2, :2] = 1, 1, 0.5  # all of the photo, a quarter, a quarter
    proposals = Proposals(masks, torch.tensor([1.0, 0.25, 1.0]))
    class_probs = torch.tensor([[0.2, 0.1], [0.3, 0.9], [0.0, 0.0]])
    for settings, expected in (
        ({}, [1, 1, 1]),
        ({"certainty_power": 1}, [0.2, 0.9, 0]),
        ({"size_power": 0.5}, [1, 2, 2]),
        ({"objectness_power": 0.5, "certainty_power": 2, "size_power": 1}, [0.04, 1.62, 0]),
    ):
        weighed = weigh_masks(proposals, class_probs, SegmentorConfig(**settings))
        torch.testing.assert_close(weighed, masks * torch.tensor(expected)[:, None, None].float())
    nothing = Proposals.empty((4, 4))
    some = SegmentorConfig(certainty_power=1, size_power=1)
    assert weigh_masks(nothing, torch.zeros(0, 2), some).shape == (0, 4, 4)
    dust = weigh_masks(Proposals(masks * 0, torch.ones(3)), class_probs, some)
    assert torch.equal(dust, masks * 0)  # and no number that is none


def test_300_names_and_one(segmentor):
    names = [f"thing {number}" for number in range(300)]
    result = segmentor.segment(make_photo(30, 40), names)
    assert result.ignore == 65535
    assert len(result.names) == 300
    assert set(np.unique(segmentor.segment(make_photo(30, 40), ["cat"]).labels)) == {0}


@pytest.mark.parametrize("names", [[], ["cat", " "], "cat"])
def test_names_are_checked_before_any_work(segmentor, names):
    with pytest.raises(ValueError, match="name"):
        segmentor.segment("no such photo.jpg", names)


def test_paths_and_pil_images(segmentor, tmp_path):
    photo = make_photo(20, 30)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    expected = segmentor.segment(photo, NAMES).labels
    for image in (tmp_path / "photo.png", str(tmp_path / "photo.png"), Image.fromarray(photo)):
        assert np.array_equal(segmentor.segment(image, NAMES).labels, expected)


def test_a_path_tells_proposers_its_stem(segmentor, tmp_path):
    """``files:<folder>`` finds its masks by the photo's stem."""
    (tmp_path / "masks").mkdir()
    regions = np.zeros((20, 30), dtype=np.uint8)
    regions[:, 10:] = 7
    Image.fromarray(regions).save(tmp_path / "masks" / "photo.png")
    Image.fromarray(make_photo(20, 30)).save(tmp_path / "photo.jpg")
    source = save_beside(segmentor, tmp_path)
    ready = Segmentor.from_pretrained(source, proposer=f"files:{tmp_path / 'masks'}")
    result = ready.segment(tmp_path / "photo.jpg", ["cat"])
    assert (result.labels[:, :9] == 255).all()
    assert (result.labels[:, 10:] == 0).all()
    named = ready.segment(make_photo(20, 30), ["cat"], stem="photo")
    assert np.array_equal(named.labels, result.labels)


def save_beside(segmentor: Segmentor, folder: Path) -> Path:
    segmentor.save_pretrained(folder / "model")
    return folder / "model"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fusion_weight": 1.2}, "fusion_weight must be in"),
        ({"mask_threshold": 1.0}, "mask_threshold must be in"),
        ({"background": "threshold:2"}, "number in"),
        ({"objectness_power": -1.0}, "objectness_power must be"),
        ({"min_objectness": 1.5}, "min_objectness must be"),
        ({"temperature": -1.0}, "temperature must be"),
        ({"head_start": -0.1}, "head_start must be"),
        ({"certainty_power": -1.0}, "certainty_power must be"),
        ({"size_power": -1.0}, "size_power must be"),
        ({"clip_batch_size": -1}, "clip_batch_size must be"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        SegmentorConfig(**settings)


@pytest.mark.parametrize(("least", "left"), [(0.0, 4), (0.5, 2), (1.0, 0)])
def test_weak_proposals_can_be_left_out(segmentor, least, left):
    proposals = speaking_proposals(torch.randn(4, 16))
    scores = torch.tensor([0.9, 0.2, 0.5, 0.4])
    proposals = Proposals(proposals.mask_probs, scores)
    narrowed = with_proposals(segmentor, proposals, min_objectness=least)
    result = narrowed.segment(make_photo(8, 8), NAMES, return_regions=True)
    assert len(result.regions.scores) == left
