"""Measuring from caches gives what measuring from photos gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from labeling.ablation.evaluation import Evaluation, Protocol
from labeling.ablation.proposals import ProposalCache, best_proposals, fingerprint_proposer
from labeling.ablation.region_features import FeatureCache
from labeling.held_out import HeldOut, score_labels
from maskclip.annotations import AnnotatedPhoto, Instance
from maskclip.clip_models import build_clip, nano_config
from maskclip.region_accuracy import RegionAccuracy, classify_masks, region_accuracy
from maskclip.region_names import RegionNamer
from maskclip.segmentor import Segmentor
from maskclip.segmentor_config import SegmentorConfig
from maskclip.stopwatch import Stopwatch
from proposal.proposals import Proposals

NAMES = ("person", "cat", "tie", "boat")
SIZE_HW = (24, 36)
JOINED = SegmentorConfig(objectness_power=0.5)


def a_mask(top, left, bottom, right) -> np.ndarray:
    mask = np.zeros(SIZE_HW, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.fixture(scope="module")
def held_out(tmp_path_factory) -> HeldOut:
    """Three photos of noise: two objects and a crowd, one object, none."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    objects = (
        (
            Instance(a_mask(2, 3, 20, 18), "person", crowd=False, stated_area=270),
            Instance(a_mask(4, 8, 12, 12), "tie", crowd=False, stated_area=32),
            Instance(a_mask(0, 25, 24, 36), "cat", crowd=True),
        ),
        (Instance(a_mask(10, 0, 24, 36), "boat", crowd=False, stated_area=504),),
        (),
    )
    for index in range(3):
        pixels = rng.integers(0, 255, (6, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(SIZE_HW[::-1]).save(folder / f"{index}.png")
    photos = [AnnotatedPhoto(f"{i}.png", SIZE_HW, each) for i, each in enumerate(objects)]
    return HeldOut(tuple(photos), NAMES, folder)


@pytest.fixture(scope="module")
def proposals() -> list[Proposals]:
    """Of each photo, masks whose values float16 holds exactly; the last is empty."""
    torch.manual_seed(0)
    found = []
    for count in (4, 3, 0):
        masks = torch.randint(0, 9, (count, 12, 18)) / 8
        masks[-1:] = 0
        named = torch.randn(count, 384), torch.randn(384)
        found.append(Proposals(masks, torch.rand(count), *named))
    return found


class Given:
    """A proposer that gives what it was given, photo after photo."""

    def __init__(self, every: list[Proposals]) -> None:
        self.left = list(every)

    def propose(self, image: np.ndarray) -> Proposals:
        del image
        return self.left.pop(0)


@pytest.fixture(scope="module", params=[False, True], ids=["crops", "photos too"])
def clip(request):
    torch.manual_seed(0)
    config = nano_config("maskclip_nano_64_w64_d2_s32", 2)
    made = build_clip(replace(config, templates="single", photo_context=request.param))
    with torch.no_grad():
        made.tower.prompts.normal_()
    return made


def cached(tmp_path, held_out, proposals, clip) -> FeatureCache:
    cache = ProposalCache(tmp_path / "proposals", "given", 10)
    for photo, each in zip(held_out.photos, proposals, strict=True):
        cache.store(photo.file_name, each)
    features = FeatureCache(tmp_path / "regions", clip, cache, JOINED.mask_threshold)
    features.fill(held_out)
    return features


def true_accuracy(clip, held_out) -> RegionAccuracy:
    said, true = [], []
    for image, photo in held_out.each("true masks"):
        single = [one for one in photo.instances if not one.crowd]
        if single:
            masks = np.stack([one.mask for one in single])
            said += classify_masks(clip, image, masks, NAMES).argmax(dim=1).tolist()
            true += [NAMES.index(one.name) for one in single]
    return region_accuracy(said, true, NAMES)


def whole_way(segmentor, held_out) -> dict:
    return score_labels(lambda image: segmentor.segment(image, NAMES).labels, held_out, NAMES)


@pytest.mark.parametrize("background", ["mean", "keep"])
def test_cached_numbers_are_those_of_the_whole_way(tmp_path, held_out, proposals, clip, background):
    clip.change(replace(clip.config, background=background))
    cache = cached(tmp_path, held_out, proposals, clip)
    found = Evaluation(held_out, cache, Protocol(JOINED, 0.7)).measure(clip)
    regions = true_accuracy(clip, held_out)
    assert found["regions"]["top1"] == pytest.approx(regions.top1)
    assert found["regions"]["mean_per_class"] == pytest.approx(regions.mean_per_class)
    for mode, weight in {"clip": 1.0, "fused": 0.7, "stage1": 0.0}.items():
        config = replace(JOINED, fusion_weight=weight)
        metrics = whole_way(Segmentor(Given(proposals), clip, config), held_out)
        assert found[mode] == pytest.approx({key: metrics[key] for key in found[mode]}), mode
    assert {found[mode]["mIoU"] for mode in ("clip", "fused", "stage1")} != {0.0}


def test_regions_encode_as_their_crops_do(tmp_path, held_out, proposals, clip):
    """Prompts included: cells of a crop's mask are what the tower reads of it."""
    cache = cached(tmp_path, held_out, proposals, clip)
    image, photo = next(held_out.each("photos"))
    namer = RegionNamer(clip, JOINED)
    with torch.no_grad():
        encoded = namer.encode(image, proposals[0], Stopwatch(clip.device))
        keep, embeddings = encoded.keep, encoded.region_embeddings
        found = cache.load(photo, "proposals")
        torch.testing.assert_close(found.encode(clip), embeddings, atol=1e-5, rtol=0)
    assert torch.equal(found.keep, keep) and keep.sum() == 3


def test_a_mute_proposer_gives_clip_alone(tmp_path, held_out, proposals, clip):
    mute = [Proposals(one.mask_probs, one.scores) for one in proposals]
    cache = cached(tmp_path, held_out, mute, clip)
    found = Evaluation(held_out, cache, Protocol(JOINED, 0.7)).measure(clip)
    assert set(found) == {"regions", "clip"}


def test_the_highest_scores_are_kept_in_their_order():
    masks = torch.arange(4.0)[:, None, None] / 4 * torch.ones(4, 2, 2)
    best = best_proposals(Proposals(masks, torch.tensor([0.9, 0.1, 0.5, 0.5])), 2)
    assert best.mask_probs[:, 0, 0].tolist() == [0, 0.5]


def test_another_background_has_another_cache(tmp_path, clip):
    proposals = ProposalCache(tmp_path, "given", 10)
    keys = set()
    for background in ("mean", "keep", "keep"):
        clip.change(replace(clip.config, background=background))
        keys.add(FeatureCache(tmp_path, clip, proposals, 0.5).key)
    assert len(keys) == 2


def test_a_proposers_key_follows_its_weights(tiny_checkpoint, tmp_path):
    before = fingerprint_proposer(str(tiny_checkpoint))
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in tiny_checkpoint.glob("*"):
        (copy / path.name).write_bytes(path.read_bytes())
    assert fingerprint_proposer(str(copy)) == before
    (copy / "model.safetensors").write_bytes(b"other")
    assert fingerprint_proposer(str(copy)) != before
    assert fingerprint_proposer("files:a/b") == "files_a_b"
