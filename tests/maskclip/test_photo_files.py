"""Files, folders and globs become photos with names for their outputs."""

from pathlib import Path

import pytest

from maskclip.photo_files import expand_inputs


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    for name in [
        "a/one.jpg",
        "a/two.PNG",
        "a/sub/one.jpeg",
        "a/sub/.hidden.jpg",
        "a/.thumbs/one.jpg",
        "a/notes.txt",
        "a/one.overlay.png",
        "a/one.labels.png",
        "b/one.jpg",
        "same/x.jpg",
        "same/x.png",
        "same/y.jpg",
        "odd [1].jpg",
        "été 写真/küche.jpg",
        "empty/notes.txt",
        "summary.jpg",
    ]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["a"], {"a/one.jpg": "one", "a/two.PNG": "two", "a/sub/one.jpeg": "sub/one"}),
        (["a/one.jpg"], {"a/one.jpg": "one"}),
        (["./a/../a/one.jpg", "a/one.jpg"], {"a/../a/one.jpg": "one"}),
        (["a/notes.txt"], {"a/notes.txt": "notes"}),
        (["a/*.jpg"], {"a/one.jpg": "one"}),
        (["a/*.png"], {"a/two.PNG": "two"}),
        (["a/**/one.*"], {"a/one.jpg": "one", "a/sub/one.jpeg": "sub/one"}),
        (["*/one.jpg"], {"a/one.jpg": "a/one", "b/one.jpg": "b/one"}),
        (["same"], {"same/x.jpg": "x.jpg", "same/x.png": "x.png", "same/y.jpg": "y"}),
        (["odd [1].jpg"], {"odd [1].jpg": "odd [1]"}),
        (["été 写真"], {"été 写真/küche.jpg": "küche"}),
        # The same name from two places: folders are kept
        (["a/one.jpg", "b/one.jpg"], {"a/one.jpg": "a/one.jpg", "b/one.jpg": "b/one.jpg"}),
    ],
)
@pytest.mark.usefixtures("tree")
def test_stems(patterns, expected):
    photos = expand_inputs(patterns)
    assert {photo.path.as_posix(): photo.stem for photo in photos} == expected


@pytest.mark.usefixtures("tree")
def test_a_photo_keeps_its_ending_where_its_stem_is_taken():
    assert [photo.stem for photo in expand_inputs(["summary.jpg"], ["summary"])] == ["summary.jpg"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("nowhere", "there is no file or folder 'nowhere'"),
        ("", "there is no file or folder ''"),
        ("empty", "the folder empty holds no photos"),
        ("nowhere/*.jpg", "no photo matches"),
        ("a/*.txt", "no photo matches"),
    ],
)
@pytest.mark.usefixtures("tree")
def test_nothing_there_is_one_sentence(pattern, message):
    with pytest.raises(FileNotFoundError, match=message):
        expand_inputs(["a", pattern])
