"""Which pixels get no name."""

import pytest
import torch

from maskclip.background import Background


@pytest.mark.parametrize(
    ("text", "threshold", "names"),
    [
        ("none", 0.0, ()),
        ("threshold:0.3", 0.3, ()),
        ("threshold:1", 1.0, ()),
        ("sky", 0.0, ("sky",)),
        ("sky,wall|floor", 0.0, ("sky", "wall|floor")),
        (r"salt\, pepper,sky", 0.0, ("salt, pepper", "sky")),
    ],
)
def test_settings(text, threshold, names):
    assert Background.parse(text) == Background(threshold, names)


@pytest.mark.parametrize("text", ["", "threshold:", "threshold:x", "threshold:1.1", "sky,,wall"])
def test_settings_that_are_none(text):
    with pytest.raises(ValueError, match="background|blank"):
        Background.parse(text)


def test_background_names_stand_behind_the_users():
    background = Background(names=("sky", "Cat", "wall"))
    names = ["cat", "dog"]
    vocabulary, count = background.extend(names)
    assert vocabulary.names == ("cat", "dog", "sky", "wall")
    assert count == 2
    assert names == ["cat", "dog"]


def test_ignored_pixels():
    labels = torch.tensor([[0, 1, 2, -1, 0]])
    confidence = torch.tensor([[0.5, 0.3, 0.9, 0.0, 0.29]])
    ignored = Background(0.3).ignored(labels, confidence, 2)
    assert ignored.tolist() == [[False, False, True, True, True]]
