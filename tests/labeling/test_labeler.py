"""Captioned photos as pairs."""

import numpy as np
import pytest
import torch
from PIL import Image

from labeling.captions import Caption, CaptionedImage
from labeling.labeler import Labeler
from labeling.matching import MatchConfig
from maskclip.pairs import decode_mask
from maskclip.segmentor import Segmentor

PHOTO = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)


class Words:
    """A parser for which every word of a caption is a noun."""

    def nouns(self, captions):
        return (list(dict.fromkeys(caption.split())) for caption in captions)


@pytest.fixture(scope="module")
def segmentor(tiny_checkpoint) -> Segmentor:
    torch.set_num_threads(1)
    return Segmentor.from_pretrained(tiny_checkpoint)


def test_a_row_carries_the_first_caption_that_says_its_noun(segmentor):
    captions = ["dog ball", "ball cat dog", ""]
    pairs = Labeler(segmentor, parser=Words()).label(PHOTO, captions, name="a/b.jpg")
    said = [(pair.noun, pair.caption, pair.caption_id) for pair in pairs]
    assert said == [
        ("dog", "dog ball", "0"),
        ("ball", "dog ball", "0"),
        ("cat", "ball cat dog", "1"),
    ]
    assert {(p.image, p.image_id, p.height, p.width) for p in pairs} == {("a/b.jpg", "b", 30, 40)}


def test_duplicates_on_request(segmentor):
    labeler = Labeler(segmentor, MatchConfig(duplicates=True), Words())
    pairs = labeler.label(PHOTO, ["dog ball", "ball"])
    assert [(p.noun, p.caption_id) for p in pairs] == [("dog", "0"), ("ball", "0"), ("ball", "1")]
    assert pairs[1].mask == pairs[2].mask


def test_ids_of_captioned_photos_are_kept(segmentor):
    entry = CaptionedImage("x.png", "77", (Caption("901", "dog"),))
    (pair,) = Labeler(segmentor, parser=Words()).label(PHOTO, entry)
    assert (pair.image_id, pair.caption_id) == ("77", "901")


@pytest.mark.parametrize("captions", [[], [""], ["| -"]])
def test_no_nouns_no_pairs(segmentor, captions):
    assert Labeler(segmentor, parser=Words()).label(PHOTO, captions) == []


def test_masks_boxes_and_areas_are_those_of_the_photo(segmentor, tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "x.png")
    for pair in Labeler(segmentor, parser=Words()).label(tmp_path / "x.png", ["dog ball cat"]):
        mask = decode_mask({"height": 30, "width": 40, "mask": pair.mask})
        assert mask.shape == (30, 40)
        assert pair.area == mask.sum() > 0
        x0, y0, x1, y1 = pair.box_xyxy
        assert mask[y0:y1, x0:x1].sum() == pair.area


def test_plain_sentences_are_parsed(segmentor):
    pairs = Labeler(segmentor).label(PHOTO, ["A dog runs after a red ball."])
    assert [pair.noun for pair in pairs] == ["dog", "ball"]
