"""Which region shows which noun."""

import numpy as np
import pytest
import torch

from labeling.matching import MatchConfig, Matcher, ranked
from maskclip.clip_config import ClipConfig
from maskclip.clip_models import build_clip
from maskclip.segmentor import Segmentor, SegmentorConfig
from proposal.proposals import Proposals

PHOTO = np.random.default_rng(0).integers(0, 255, (24, 40, 3), dtype=np.uint8)
NOUNS = ["cat", "dog", "traffic light"]


class Ready:
    """Proposes the masks it was made with, at half the photo's size, and counts how often."""

    def __init__(self, boxes_xyxy: list[tuple[int, int, int, int]]) -> None:
        self.masks = torch.zeros(len(boxes_xyxy), 12, 20)
        for mask, (x0, y0, x1, y1) in zip(self.masks, boxes_xyxy, strict=True):
            mask[y0:y1, x0:x1] = 1
        self.scores = torch.ones(len(boxes_xyxy))
        self.asked = 0

    def propose(self, image: np.ndarray) -> Proposals:
        del image
        self.asked += 1
        return Proposals(self.masks, self.scores)


HALVES = [(0, 0, 10, 12), (10, 0, 20, 12)]
MANY = [*HALVES, (0, 0, 20, 6), (0, 6, 20, 12), (2, 2, 6, 6), (12, 3, 14, 9), (0, 0, 0, 0)]


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    vision = {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16}
    text = {"width": 16, "heads": 1, "layers": 1, "context_length": 24}
    model = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    return build_clip(ClipConfig(name="tiny", model=model, templates="single"))


@pytest.fixture
def matcher(clip):
    def build(boxes: list, segmentor: dict | None = None, **config) -> Matcher:
        settings = SegmentorConfig(**(segmentor or {}))
        return Matcher(Segmentor(Ready(boxes), clip, settings), MatchConfig(**config))

    return build


@pytest.mark.parametrize(
    ("scores", "order"),
    [
        ([], []),
        ([0.3], [0]),
        ([0.1, 0.5, 0.3], [1, 2, 0]),
        ([0.5, 0.5 + 5e-6, 0.2], [0, 1, 2]),  # equal but for rounding: the first comes first
        ([0.5, 0.5 + 2e-5, 0.2], [1, 0, 2]),
    ],
)
def test_rows_are_ranked_by_score_and_ties_by_their_place(scores, order):
    assert list(ranked(np.array(scores), np.arange(len(scores)))) == order


def test_only_the_given_rows_are_ranked():
    assert list(ranked(np.array([0.1, 0.9, 0.5]), np.array([0, 2]))) == [2, 0]


@pytest.mark.parametrize("boxes", [[], [(0, 0, 0, 0)]])
def test_no_regions_no_matches(matcher, boxes):
    assert matcher(boxes).match(PHOTO, NOUNS) == []


def test_no_nouns_nothing_is_proposed(matcher):
    idle = matcher(HALVES)
    assert idle.match(PHOTO, []) == []
    assert idle.segmentor.proposer.asked == 0


def test_one_region_shows_every_noun(matcher):
    found = matcher(HALVES[:1]).match(PHOTO, NOUNS)
    assert [(match.noun, match.proposal) for match in found] == [(noun, 0) for noun in NOUNS]
    assert sum(match.probability for match in found) == pytest.approx(1)
    assert all(match.mask.shape == (24, 40) and match.mask[:, :20].all() for match in found)
    assert not any(match.mask[:, 21:].any() for match in found)


def test_each_noun_keeps_the_region_with_the_largest_cosine(matcher, clip):
    one = matcher(MANY)
    found = one.match(PHOTO, NOUNS)
    assert one.segmentor.proposer.asked == 1
    regions = one.segmentor.segment(PHOTO, NOUNS, return_regions=True).regions
    cosines = regions.region_embeddings @ regions.text_embeddings.T  # (6, 3)
    for column, match in enumerate(found):
        assert match.proposal == int(cosines[:, column].argmax())
        assert match.score == pytest.approx(float(cosines[:, column].max()), abs=1e-6)
        probabilities = (clip.logit_scale * cosines[match.proposal]).softmax(0)
        assert match.probability == pytest.approx(float(probabilities[column]), abs=1e-5)


def test_a_noun_alone_has_probability_1(matcher):
    assert matcher(MANY).match(PHOTO, ["cat"])[0].probability == 1.0


def test_top_k_are_the_best_first(matcher):
    found = matcher(MANY, top_k=4).match(PHOTO, NOUNS)
    assert [match.noun for match in found] == [noun for noun in NOUNS for _ in range(4)]
    for start in (0, 4, 8):
        scores = [match.score for match in found[start : start + 4]]
        assert scores == sorted(scores, reverse=True)
    assert len(matcher(MANY, top_k=99).match(PHOTO, NOUNS)) == 3 * 6  # one proposal is empty


def test_objectness_and_area_decide_between_like_scores(clip):
    """Worked by hand: bonus = (power * log(objectness) + power * log(share)) / scale."""
    boxes = [(0, 0, 10, 12), (10, 0, 20, 12), (0, 0, 5, 12)]  # shares 1/2, 1/2, 1/4
    proposer = Ready(boxes)
    proposer.scores = torch.tensor([1.0, 0.25, 1.0])
    matcher = Matcher(Segmentor(proposer, clip), MatchConfig(objectness_power=2, area_power=0.5))
    bonus = matcher._bonus(matcher.look(PHOTO, NOUNS)) * clip.logit_scale
    half, quarter = np.log(0.5), np.log(0.25)
    expected = [0.5 * half, 2 * quarter + 0.5 * half, 0.5 * quarter]
    np.testing.assert_allclose(bonus, expected, rtol=1e-5)
    strong = Matcher(Segmentor(proposer, clip), MatchConfig(objectness_power=1e6))
    assert {match.proposal for match in strong.match(PHOTO, NOUNS)} <= {0, 2}


def test_the_papers_ranking_is_by_score_alone(clip):
    proposer = Ready(MANY)
    proposer.scores = torch.linspace(0.01, 1, len(MANY))
    published = Segmentor(proposer, clip, SegmentorConfig(compat=True))
    every = Matcher(published, MatchConfig(top_k=99)).match(PHOTO, NOUNS)
    for config in (MatchConfig(), MatchConfig(objectness_power=0, area_power=0)):
        best = Matcher(published, config).match(PHOTO, NOUNS)
        for match in best:
            assert match.score == max(one.score for one in every if one.noun == match.noun)


def test_the_same_mask_is_kept_once_for_a_noun(matcher):
    found = matcher([HALVES[0], HALVES[0], HALVES[1]], top_k=3).match(PHOTO, ["cat"])
    assert sorted(match.proposal for match in found) == [0, 2]


def test_minimum_score_and_probability_leave_candidates_out(matcher):
    every = matcher(MANY, top_k=99).match(PHOTO, NOUNS)
    limit = sorted(match.score for match in every)[9] + 1e-7
    some = matcher(MANY, top_k=99, min_score=limit).match(PHOTO, NOUNS)
    assert {(m.noun, m.proposal) for m in some} == {
        (m.noun, m.proposal) for m in every if m.score >= limit
    }
    assert 0 < len(some) < len(every)
    likely = matcher(MANY, top_k=99, min_probability=0.4).match(PHOTO, NOUNS)
    assert {(m.noun, m.proposal) for m in likely} == {
        (m.noun, m.proposal) for m in every if m.probability >= 0.4
    }
    assert matcher(MANY, min_score=1.0).match(PHOTO, NOUNS) == []


@pytest.mark.parametrize(
    ("limits", "areas"),
    [
        ({}, {480, 64, 48}),  # of 960 pixels; sharp masks, so that doubling is exact
        ({"min_area": 60}, {480, 64}),
        ({"min_area": 0.06}, {480, 64}),
        ({"max_area": 0.49}, {64, 48}),
        ({"max_area": 64}, {64, 48}),
        ({"min_area": 1, "max_area": 1}, {480, 64, 48}),  # one pixel; the whole photo
        ({"min_area": 0.9}, set()),
    ],
)
def test_areas_are_pixels_or_shares_of_the_photo(matcher, limits, areas):
    found = matcher(MANY, top_k=99, **limits).match(PHOTO, ["cat"])
    assert {int(match.mask.sum()) for match in found} == areas


def test_the_next_best_region_takes_the_place_of_one_that_does_not_fit(matcher):
    first = matcher(MANY).match(PHOTO, ["cat"])[0]
    small = first.mask.sum() < 100
    limits = {"min_area": 100} if small else {"max_area": 100}
    second = matcher(MANY, **limits).match(PHOTO, ["cat"])[0]
    assert (second.mask.sum() < 100) != small
    assert second.score < first.score


def test_proposals_are_numbered_as_the_proposer_gave_them(matcher):
    # The first two are left out for their objectness, the third for having no pixel
    boxes = [HALVES[0], HALVES[1], (0, 0, 0, 0), HALVES[1]]
    one = matcher(boxes, {"min_objectness": 0.5})
    one.segmentor.proposer.scores[:2] = 0.1
    assert [match.proposal for match in one.match(PHOTO, NOUNS)] == [3, 3, 3]


def test_what_a_noun_gets_does_not_depend_on_what_was_matched_before(matcher):
    fresh = matcher(MANY).match(PHOTO, ["zebra"])[0]
    used = matcher(MANY)
    used.match(PHOTO, ["a longer name", "zebra", "lamp"])
    used.segmentor.clip.encode_names(["zebra", "a very long name of nothing at all"])
    again = used.match(PHOTO, ["zebra"])[0]
    assert (again.score, again.proposal) == (fresh.score, fresh.proposal)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_another_batch_size_changes_no_match_and_hardly_a_score(matcher, batch_size):
    twins = [*MANY, *MANY]  # equal scores but for rounding
    one = matcher(twins, top_k=2).match(PHOTO, NOUNS)
    other = matcher(twins, {"clip_batch_size": batch_size}, top_k=2).match(PHOTO, NOUNS)
    assert [(m.noun, m.proposal) for m in one] == [(m.noun, m.proposal) for m in other]
    for first, second in zip(one, other, strict=True):
        assert first.score == pytest.approx(second.score, abs=1e-5)


def test_a_stroke_in_a_noun_is_no_synonym(matcher):
    assert [match.noun for match in matcher(HALVES).match(PHOTO, ["tv|radio"])] == ["tv|radio"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"area_power": -1}, "area_power must be 0 or more, got -1"),
        ({"min_score": 2}, "min_score is a cosine"),
        ({"min_probability": -0.1}, "min_probability must be in"),
        ({"min_area": -1}, "min_area must be 0 or more"),
        ({"max_area": 0}, "max_area above 0"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        MatchConfig(**wrong)
