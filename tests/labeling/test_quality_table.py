import json

import pytest

from labeling.quality_table import compare, read_numbers, table

QUERY = {"right": 75.0, "wrong": 5.0, "chance": 8.0, "right_masks": 4, "wrong_masks": 9}
NEW = {
    "model": "new",
    "photos": 80,
    "proposals": {"model": {"AR@10": 6.0, "AR@100": 12.0, "AR@100_ratio": 1.6}},
    "regions": {
        "model": {"top1": 70.0, "unseen_top1": None, "h_top1": None, "regions": 8, "per_class": {}},
        "always person": {"top1": 20.0, "regions": 8},
    },
    "queries": {"model": {"right": 75.0, "wrong": 5.0, "queries": 1, "per_query": {"a|b": QUERY}}},
}
OLD = {
    "proposals": {"model": {"AR@10": 6.0, "AR@100": 13.0}},
    "regions": {"model": {"top1": 60.0, "regions": 9}, "always person": {"top1": 30.0}},
    "queries": {"model": {"right": 70.0, "wrong": 9.0, "per_query": {"a|b": QUERY}}},
}


def test_a_line_for_every_contestant_and_title():
    lines = table(NEW).splitlines()
    assert "| proposals | model | AR@10 6.0, AR@100 12.0, AR@100_ratio 1.60 times |" in lines
    assert "| regions | model | top1 70.0 8 regions |" in lines
    assert "| regions | model, unseen masks among all names | unseen_top1 none |" in lines
    assert "| regions | always person | top1 20.0 8 regions |" in lines
    assert "| queries | a\\|b | right 75.0, wrong 5.0 of 4 right masks |" in lines


def test_every_number_beside_its_old_one():
    lines = compare(OLD, NEW).splitlines()
    assert "| proposals AR@10 | 6.00 | 6.00 | +0.00 | same |" in lines
    assert "| proposals AR@100 | 13.00 | 12.00 | -1.00 | no |" in lines
    assert "| regions top1 | 60.00 | 70.00 | +10.00 | yes |" in lines
    assert "| queries wrong | 9.00 | 5.00 | -4.00 | yes |" in lines  # less is better
    assert "| queries a\\|b right | 75.00 | 75.00 | +0.00 | same |" in lines
    assert lines[-1] == "3 of 7 numbers are better. 1 have no old number."


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "old.json"
    with pytest.raises(FileNotFoundError, match="check the path"):
        read_numbers(path)
    for content, problem in (("{", "no JSON"), ('{"a": 1}', "none of its parts")):
        path.write_text(content)
        with pytest.raises(ValueError, match=problem):
            read_numbers(path)
    path.write_text(json.dumps(OLD))
    assert read_numbers(path) == OLD
