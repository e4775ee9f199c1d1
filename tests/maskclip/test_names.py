"""Names as users write them."""

import time

import pytest

from maskclip.names import parse_names, read_class_file, split_classes


def test_synonyms_belong_to_their_name():
    vocabulary = parse_names(["cat", "sofa|couch| settee", "floor"])
    assert vocabulary.names == ("cat", "sofa|couch| settee", "floor")
    assert vocabulary.synonyms == ("cat", "sofa", "couch", "settee", "floor")
    assert vocabulary.owner == (0, 1, 1, 1, 2)
    assert len(vocabulary) == 3


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (["cat", "dog", "cat"], ("cat", "dog")),
        (["Cat", "dog", " cat "], ("Cat", "dog")),
        (["dining  table", "dining table"], ("dining  table",)),
        (["sofa|couch", "couch|sofa"], ("sofa|couch",)),
        (["sofa|couch", "sofa"], ("sofa|couch", "sofa")),
        (["STRASSE", "straße"], ("STRASSE",)),
        (["café", "cafe\u0301"], ("café",)),
        (["猫", "🐈", "кошка"], ("猫", "🐈", "кошка")),
    ],
)
def test_equal_names_are_merged_into_the_first(names, kept):
    assert parse_names(names).names == kept


def test_a_synonym_said_twice_counts_once():
    vocabulary = parse_names(["cat|Cat|kitten"])
    assert (vocabulary.synonyms, vocabulary.owner) == (("cat", "kitten"), (0, 0))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "empty"),
        (["cat", ""], "name 2 is blank"),
        (["cat", "dog", " \t\u200b\u00a0"], "name 3 is blank"),
        (["cat|"], "name 1 .* blank synonym"),
        (["cat", "a||b"], "name 2 .* blank synonym"),
        (["cat", None], "name 2 must be a string, got NoneType"),
        (["cat\udc80"], "name 1 .* UTF-8"),
        ("cat,dog", "list of strings"),
    ],
)
def test_refused_names_are_named(names, message):
    with pytest.raises(ValueError, match=message):
        parse_names(names)


def test_the_callers_list_is_left_alone():
    names = [" cat ", "cat", "a|b"]
    parse_names(names)
    assert names == [" cat ", "cat", "a|b"]


def test_ten_thousand_names_are_fast():
    names = [f"thing number {number}|object {number}" for number in range(10_000)]
    start = time.process_time()
    vocabulary = parse_names(names)
    assert time.process_time() - start < 1
    assert (len(vocabulary), len(vocabulary.synonyms)) == (10_000, 20_000)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("cat", ["cat"]),
        ("cat, dog ,a|b", ["cat", "dog", "a|b"]),
        (r"door, closed\, or open", ["door", "closed, or open"]),
        ("cat,,dog", ["cat", "", "dog"]),
    ],
)
def test_classes_split_at_commas(text, names):
    assert split_classes(text) == names


@pytest.mark.parametrize(
    "content", [b"cat\ndog, wet\n", b"\xef\xbb\xbfcat\r\ndog, wet\r\n\r\n", b"cat \n dog, wet"]
)
def test_a_file_has_one_name_a_line(tmp_path, content):
    path = tmp_path / "naïve names.txt"
    path.write_bytes(content)
    assert read_class_file(path) == ["cat", "dog, wet"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "no names"), (b"\n \n", "no names"), (b"a\n\nb", "line 2"), (b"\xff\xfea", "UTF-8")],
)
def test_refused_files_are_named(tmp_path, content, message):
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_class_file(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.txt"):
        read_class_file(tmp_path / "nothing.txt")
