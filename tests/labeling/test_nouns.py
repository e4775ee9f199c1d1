import importlib.util
import logging
from pathlib import Path

import pytest

from labeling.noun_casing import settle_case
from labeling.noun_counts import count_nouns, read_texts, table
from labeling.noun_taggers import noun_forms
from labeling.nouns import NounConfig, NounParser, read_stop_nouns

HERE = Path(__file__).parent


def read_cases(name):
    """Captions with the nouns that a person finds."""
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return [(caption, [] if nouns == "-" else nouns.split(", ")) for caption, nouns in rows]


@pytest.fixture(scope="module")
def parser():
    return NounParser()


@pytest.mark.parametrize("name", ["caption_nouns.tsv", "caption_nouns_unseen.tsv"])
def test_hand_checked_captions(parser, name):
    cases = read_cases(name)
    assert len(cases) >= 100
    found = parser.nouns(caption for caption, _ in cases)
    wrong = [
        f"{caption}: expected {expected}, got {got}"
        for (caption, expected), got in zip(cases, found, strict=True)
        if got != expected
    ]
    assert not wrong, "\n".join(wrong)


def test_hard_captions_are_mostly_right(parser):
    cases = read_cases("caption_nouns_hard.tsv")
    pairs = list(zip(cases, parser.nouns(caption for caption, _ in cases), strict=True))
    right = sum(len({*expected} & {*got}) for (_, expected), got in pairs)
    assert right / sum(len(got) for _, got in pairs) >= 0.85  # precision, measured 0.88
    assert right / sum(len(expected) for (_, expected), _ in pairs) >= 0.9  # recall, 0.93


@pytest.mark.parametrize(
    ("caption", "nouns"),
    [
        ("", []),
        ("   \n", []),
        ("...!? 12 3/4 &", []),
        ("A woman's hand holds two hot dogs.", ["woman", "hand", "hot dog"]),
        ("A WOMAN'S HAND HOLDS TWO HOT DOGS", ["woman", "hand", "hot dog"]),
        ("A Woman's Hand Holds Two Hot Dogs", ["woman", "hand", "hot dog"]),
        ("Traffic lights and stop signs", ["traffic light", "stop sign"]),
        ("three wine glasses on a wooden table", ["wine glass", "table"]),
        ("He is wearing glasses and pants.", ["glasses", "pants"]),
        ("glasses of wine", ["glass", "wine"]),
        ("a pair of scissors", ["scissors"]),
        ("cats, a cat and more cats", ["cat"]),
        ("They ride Hondas in London with Bob", []),
        ("an orange, an orange cat, a man in orange", ["orange", "cat", "man"]),
        ("It is standing.Two dogs/cats look on", ["dog", "cat"]),
        ("a café with a crêpe", ["café", "crêpe"]),
        (
            "men, women, children, mice, leaves, knives",
            ["man", "woman", "child", "mouse", "leaf", "knife"],
        ),
        ("a double-decker bus and a t-shirt", ["double-decker bus", "t-shirt"]),
    ],
)
def test_single_cases(parser, caption, nouns):
    assert list(parser.nouns([caption])) == [nouns]


def test_the_order_of_captions_is_kept(parser):
    captions = [f"a {noun}" for noun in ("dog", "cat", "bus") * 700]
    assert list(parser.nouns(captions)) == [["dog"], ["cat"], ["bus"]] * 700
    assert list(parser.nouns([])) == []


def test_several_processes_find_the_same(parser):
    captions = [caption for caption, _ in read_cases("caption_nouns.tsv")]
    config = NounConfig(processes=2, batch_size=16)
    assert list(NounParser(config).nouns(captions)) == list(parser.nouns(captions))


def test_compounds_can_be_off():
    nouns = NounParser(NounConfig(compounds=False)).nouns
    assert list(nouns(["Traffic lights over a brick wall."])) == [
        ["traffic", "light", "brick", "wall"]
    ]


def test_the_lemmatiser_can_be_off():
    nouns = NounParser(NounConfig(lemmatise=False)).nouns
    assert list(nouns(["Traffic Lights and two men"])) == [["traffic lights", "men"]]


def test_stop_nouns_can_be_replaced(tmp_path):
    path = tmp_path / "stop.txt"
    path.write_text("Dog  # barks\n\nstop sign\n")
    nouns = NounParser(NounConfig(stop_nouns=str(path))).nouns
    caption = "a photo of dogs and cats at a stop sign"
    assert list(nouns([caption])) == [["photo", "cat"]]
    nouns = NounParser(NounConfig(stop_nouns="")).nouns
    assert list(nouns([caption])) == [["photo", "dog", "cat", "stop sign"]]


def test_the_issues_stop_nouns_are_stopped():
    told = ["photo", "picture", "image", "view", "background", "top", "side", "front", "group"]
    told += ["lot", "time", "day"]
    assert set(told) <= read_stop_nouns("default")


def test_amounts_are_stopped_only_as_amounts(parser):
    captions = ["A couple of dogs", "A couple on a bench", "a number of cats", "numbers on a door"]
    expected = [["dog"], ["couple", "bench"], ["cat"], ["number", "door"]]
    assert list(parser.nouns(captions)) == expected


def test_wrong_settings_are_told(tmp_path):
    with pytest.raises(ValueError, match="parser must be one of spacy, nltk, got 'x'"):
        NounConfig(parser="x")
    with pytest.raises(ValueError, match="processes must be 0 or more"):
        NounConfig(processes=-1)
    with pytest.raises(FileNotFoundError, match="no file of stop nouns"):
        NounParser(NounConfig(stop_nouns=str(tmp_path / "none.txt")))
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="UTF-8"):
        NounParser(NounConfig(stop_nouns=str(tmp_path / "bad.txt")))


@pytest.mark.parametrize(
    ("plural", "singular"),
    [
        ("buses", "bus"),
        ("people", "person"),
        ("scissors", "scissors"),
        ("knives", "knife"),
        ("skis", "ski"),
        ("skies", "sky"),
        ("women", "woman"),
        ("glasses", "glasses"),
        ("dishes", "dish"),
        ("arms", "arm"),
        ("wetsuits", "wetsuit"),  # no dictionary has it
        ("frisbies", "frisby"),  # nor this
        ("sheep", "sheep"),
    ],
)
def test_singular(plural, singular):
    assert noun_forms().singular(plural) == singular


def test_a_singular_that_ends_in_s_stays():
    assert noun_forms().singular("bus", plural=False) == "bus"
    assert noun_forms().singular("tennis", plural=False) == "tennis"


@pytest.mark.parametrize(
    ("caption", "text", "names"),
    [
        ("A man in New York.", "a man in New York.", {"new", "york"}),
        ("A TV on a wall. The cat", "a tv on a wall. the cat", {"tv"}),
        ("A BIG DOG", "a big dog", set()),
        ("A Man On A Big Dog", "a man on a big dog", set()),
        ("a big BAE SYSTEMS flag", "a big BAE SYSTEMS flag", {"bae", "systems"}),
    ],
)
def test_capitals(caption, text, names):
    cased = settle_case(caption)
    assert (cased.text, cased.names) == (text, names)


def test_nltk_without_its_data_is_told(monkeypatch, tmp_path):
    nltk = pytest.importorskip("nltk")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(ValueError, match="needs NLTK's averaged_perceptron_tagger_eng: python -m"):
        NounParser(NounConfig(parser="nltk"))


@pytest.mark.skipif(importlib.util.find_spec("nltk") is not None, reason="nltk is installed")
def test_nltk_not_installed_is_told():
    with pytest.raises(ValueError, match="pip install nltk"):
        NounParser(NounConfig(parser="nltk"))


def test_nltk_finds_nouns_with_a_tagger_trained_here(monkeypatch, tmp_path, parser):
    """Its own data are not on PyPI: a perceptron trained on spaCy's tags stands in for them."""
    nltk = pytest.importorskip("nltk")
    from nltk.tag.perceptron import PerceptronTagger

    logging.getLogger("nltk").setLevel(logging.WARNING)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    captions = [caption for caption, _ in read_cases("caption_nouns.tsv")]
    cased = [settle_case(caption).text for caption in captions]
    tagged = [[(word.text, word.tag) for word in words] for words in parser._tag(cased)]
    tagger = PerceptronTagger(load=False)
    folder = tmp_path / "taggers" / "averaged_perceptron_tagger_eng"
    folder.parent.mkdir()
    tagger.lang = "eng"
    tagger.train([words for words in tagged if words], save_loc=str(folder))
    nouns = NounParser(NounConfig(parser="nltk")).nouns
    found = list(nouns(["A man rides a motorcycle next to two stop signs.", ""]))
    assert found == [["man", "motorcycle", "stop sign"], []]


def test_counts(parser):
    numbers = count_nouns(parser, ["two dogs", "a dog and a hot dog", "it"])
    assert numbers["captions"] == 3
    assert numbers["captions_without_nouns"] == 1
    assert numbers["top_nouns"] == {"dog": 2, "hot dog": 1}
    assert (numbers["unique_nouns"], numbers["unique_compounds"]) == (2, 1)
    assert numbers["nouns_per_caption"] == 1
    assert "1.00 nouns a caption" in table(numbers)
    assert count_nouns(parser, [])["nouns_per_caption"] == 0


def test_texts_are_read_from_lists_and_captions(tmp_path):
    (tmp_path / "a.json").write_text('["A cat", "A dog"]')
    (tmp_path / "b.tsv").write_text("x.jpg\tA cat\n")
    assert read_texts(tmp_path / "a.json") == ["A cat", "A dog"]
    assert read_texts(tmp_path / "b.tsv") == ["A cat"]


def test_the_projects_captions(parser, shared):
    texts = read_texts(shared / "data" / "coco" / "captions_text_val2017.json")
    numbers = count_nouns(parser, texts[:2000])
    assert 2.5 < numbers["nouns_per_caption"] < 3.2
    assert next(iter(numbers["top_nouns"])) in ("man", "person")
