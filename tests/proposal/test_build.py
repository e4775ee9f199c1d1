"""Proposers by name."""

from __future__ import annotations

import pytest

from proposal.build import build_proposer
from proposal.files import FilesProposer
from proposal.superpixels import SuperpixelConfig


def test_names_build_their_proposers(tmp_path):
    proposer = build_proposer("superpixels", {"scales": [100.0], "short_side": 64})
    assert proposer.config == SuperpixelConfig(scales=(100.0,), short_side=64)
    assert build_proposer("superpixels").config == SuperpixelConfig()
    assert isinstance(build_proposer(f"files:{tmp_path}"), FilesProposer)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hub:", "got 'hub:'"),
        ("maskformer", "comes with a checkpoint"),
        (
            "files:",
            "must be one of maskformer, superpixels, files:<folder>, hub:<id or folder>, "
            "got 'files:'",
        ),
        ("pixels", "got 'pixels'"),
        ("", "got ''"),
    ],
)
def test_other_names_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        build_proposer(spec)


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="unknown key scale: known are"):
        build_proposer("superpixels", {"scale": 3})
