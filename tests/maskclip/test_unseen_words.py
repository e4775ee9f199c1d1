import json
from pathlib import Path

import pytest

from maskclip.unseen_words import fold_noun, read_left_out

WORDS = Path(__file__).resolve().parents[2] / "configs" / "vocabularies" / "coco_unseen_words.txt"


def test_nouns_are_compared_whatever_their_case(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("# dog\nAfghan  Hound\n\ndog\n  # cow\nox \n", encoding="utf-8")
    assert read_left_out(path) == {"afghan hound", "dog", "ox"}


def test_a_file_without_nouns_is_refused(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(ValueError, match="one noun a line, got none"):
        read_left_out(path)
    with pytest.raises(FileNotFoundError, match="check the path"):
        read_left_out(tmp_path / "none.txt")


def test_the_twins_words_hold_their_names_and_what_people_call_them():
    words = read_left_out(WORDS)
    assert words >= {"puppy", "sofa", "calf", "lamb", "jet", "plane", "loveseat", "pony", "parasol"}
    assert not words & {"hot dog", "bus stop", "zebra", "bison", "armchair", "vehicle", "animal"}


def test_no_noun_stands_twice():
    lines = [line for line in WORDS.read_text(encoding="utf-8").splitlines() if line]
    nouns = [fold_noun(line) for line in lines if not line.startswith("#")]
    assert len(nouns) == len(set(nouns))


def test_every_narrower_label_of_the_unseen_names_is_left_out(shared):
    unseen = (shared / "data" / "splits" / "coco_unseen.txt").read_text(encoding="utf-8").split()
    labels = json.loads((shared / "data" / "pretrain" / "labels.json").read_text(encoding="utf-8"))
    narrower = [label for label, about in labels.items() if about.get("coarse") in unseen]
    words = read_left_out(WORDS)
    missing = [name for name in unseen + narrower if fold_noun(name) not in words]
    assert len(unseen) == 15
    assert len(narrower) > 130
    assert not missing


def test_every_spelling_of_the_unseen_names_in_coco_synonyms_is_left_out(shared):
    unseen = (shared / "data" / "splits" / "coco_unseen.txt").read_text(encoding="utf-8").split()
    synonyms = WORDS.parents[2] / "labeling" / "data" / "coco_synonyms.txt"
    words = read_left_out(WORDS)
    for line in synonyms.read_text(encoding="utf-8").splitlines():
        name, _, listed = line.partition("#")[0].partition(":")
        if name in unseen:
            nouns = [fold_noun(noun) for noun in listed.split(",") if noun.strip()]
            assert not set(nouns) - words
