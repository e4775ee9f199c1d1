import json
from pathlib import Path

import numpy as np
import pytest

from labeling.mask_scores import MaskScores
from labeling.queries import MEASURES, Query, QueryTable, measure_queries, read_queries
from maskclip.names import parse_names, read_class_file

VOCABULARY = Path(__file__).resolve().parents[2] / "configs" / "vocabularies" / "coco80.txt"
TABLE = QueryTable(
    ("person", "cat", "car"),
    (Query("animal", ("dog", "cat"), either=("teddy bear",)), Query("kite on a string", ("kite",))),
)


def test_shares_of_right_and_wrong_masks():
    texts = ("person", "cat", "car", "animal", "kite on a string")
    true = ("dog", "dog", "cat", "person", "car", "teddy bear")
    best = ("animal", "car", "cat", "person", "animal", "animal")
    logits = np.array([[text == one for text in texts] for one in best], dtype=np.float32)
    logits[2, texts.index("animal")] = 0.5  # the cat is no rival of the animal
    found = measure_queries(MaskScores(logits, texts, true), TABLE)["model"]
    assert list(found["per_query"]) == ["animal"]  # no mask shows a kite
    assert found["queries"] == 1
    animal = found["per_query"]["animal"]
    assert animal["right"] == found["right"] == pytest.approx(100 * 2 / 3)
    assert animal["wrong"] == pytest.approx(100 * 1 / 2)
    assert animal["chance"] == pytest.approx(100 / 3)
    assert (animal["right_masks"], animal["wrong_masks"]) == (3, 2)
    # In order: dog and car (1 above), cat (0.5), person and dog (1 below); cat is no rival
    assert animal["AP"] == found["AP"] == pytest.approx(100 * (1 + 2 / 3 + 3 / 4) / 3)
    assert animal["AP_chance"] == pytest.approx(60)


def test_no_masks_at_all():
    scores = MaskScores(np.zeros((0, len(TABLE.texts)), np.float32), TABLE.texts, ())
    found = measure_queries(scores, TABLE)["model"]
    assert found == dict.fromkeys(MEASURES) | {"queries": 0, "per_query": {}}


def test_the_packaged_queries_are_about_coco_and_in_no_list():
    table, names = read_queries(), set(read_class_file(VOCABULARY))
    texts = [query.text for query in table.queries]
    assert len(table.distractors) == 12
    assert {"puppy", "couch|sofa", "four-legged animal"} <= set(texts)
    assert set(table.distractors) <= names
    assert not names & set(texts)
    for query in table.queries:
        assert set(query.right + query.either) <= names
        assert not set(query.right) & set(query.either)
        assert len(table.others(query)) >= 9
    every = [*names, *texts]
    assert len(parse_names(every)) == len(every)  # a merged name would shift the columns


@pytest.mark.parametrize("row", [{"query": "cat", "right": ["cat"]}, {"query": "x", "right": []}])
def test_a_wrong_table_is_refused(tmp_path, row):
    path = tmp_path / "queries.json"
    path.write_text(json.dumps({"distractors": ["cat"], "queries": [row]}), encoding="utf-8")
    with pytest.raises(ValueError, match="right names and be no distractor"):
        read_queries(path)
