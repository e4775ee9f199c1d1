"""What JSON files hold."""

from __future__ import annotations

import pytest

from proposal.json_content import read_json, read_json_object


def test_contents(tmp_path):
    (tmp_path / "a.json").write_text('{"ä": [1, null]}', encoding="utf-8")
    (tmp_path / "b.json").write_text("[]")
    assert read_json_object(tmp_path / "a.json") == {"ä": [1, None]}
    assert read_json(tmp_path / "b.json") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not readable JSON"),
        (b"", "is not readable JSON"),
        (b"\xff", "is not readable JSON"),
        (b"[]", "must hold a JSON object, got a list"),
        (b"3", "must hold a JSON object, got a int"),
    ],
)
def test_what_is_no_object_is_refused(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json_object(tmp_path / "a.json")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "a.json")
