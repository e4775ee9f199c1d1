"""What `import maskclip` gives."""

import sys

import pytest

import maskclip


@pytest.mark.parametrize("name", maskclip.__all__)
def test_public_names_are_what_they_say(name):
    assert getattr(maskclip, name).__name__ == name


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'Segmenter'"):
        maskclip.Segmenter  # noqa: B018


def test_a_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "maskclip.segmentor", None)  # as if it could not be imported
    with pytest.raises(ModuleNotFoundError, match=r"needs the package maskclip\.segmentor.*make"):
        maskclip.Segmentor  # noqa: B018
