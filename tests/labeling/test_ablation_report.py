import json

import pytest

from labeling.ablation.ledger import Ledger, Spent
from labeling.ablation.recipe import Direction, Recipe, Row, RunRecipe, Table
from labeling.ablation.report import write_report
from labeling.ablation.results import Results, Spread
from labeling.ablation.verdicts import judge

NUMBERS = {"top1": 50.0, "mean_per_class": 40.0, "clip": 10.0}
RUNS = (RunRecipe("start"), RunRecipe("ft", init="start", seeds=(0, 1, 2)))
ABOVE = Direction("FT above unadapted", "ft", "start", (28.8, 21.8))


def results(ft_mious, start_miou=10.0, **start_numbers) -> Results:
    measured = {("ft", seed): NUMBERS | {"clip": miou} for seed, miou in enumerate(ft_mious)}
    measured["start", 0] = NUMBERS | {"clip": start_miou} | start_numbers
    tables = (
        Table(
            "Adaptation",
            ("top1", "clip", "fused"),
            (Row("unadapted", "start"), Row("FT", "ft")),
            "As here.",
        ),
    )
    recipe = Recipe(runs=RUNS, tables=tables, paper=(ABOVE,), proposer="runs/p", intro="Small.")
    return Results(recipe, measured)


def test_a_spread_is_the_mean_with_the_samples_deviation():
    assert str(Spread.of([10.0, 12.0, 14.0])) == "12.0 ± 2.0"
    assert str(Spread.of([10.04])) == "10.0"


@pytest.mark.parametrize(
    ("mious", "difference", "verdict"),
    [
        ([12.0, 13.0, 14.0], "+3.0 ± 1.0", "agrees"),
        ([7.0, 7.5, 8.0], "-2.5 ± 0.5", "**disagrees**"),
        ([9.0, 11.0, 12.0], "+0.7 ± 1.5", "undecided: within the deviation"),
        ([12.0], "+2.0", "agrees, of one seed only"),
        ([9.0], "-1.0", "**disagrees**, of one seed only"),
        ([], "–", "not measured yet"),
    ],
)
def test_a_direction_holds_if_the_difference_exceeds_its_deviation(mious, difference, verdict):
    found = judge(ABOVE, results(mious))
    assert (found.paper, found.difference, found.verdict) == (
        "28.8 against 21.8",
        difference,
        verdict,
    )


def test_stages_are_compared_only_where_stage_1_can_name():
    direction = Direction("stage 1 above CLIP", "start", "start", (19.6, 14.3), "stage1", "clip")
    mute = judge(direction, results([]))
    assert mute.verdict == "not measured: stage 1 cannot name"
    assert judge(direction, results([], stage1=12.0)).difference == "+2.0"


def test_end_to_end_is_fused_where_that_was_measured():
    assert results([]).real("mIoU") == "clip"
    assert results([], fused=11.0).real("mIoU") == "fused"


def test_an_unfinished_report_says_what_is_missing_and_how_to_go_on(tmp_path):
    path = tmp_path / "docs" / "ablation.md"
    pairs = {"first": {"pairs": 1200, "nouns": 80}, "all": {}}
    write_report(path, results([12.0, 14.0]), Spent("total", 120.0, 60.0), pairs)
    text = path.read_text()
    assert "**Not complete**: 3 of 4 runs" in text
    assert "Missing: ft (seed 2). `make ablation` goes on" in text
    assert "1 minutes of one CPU core (2 by the clock)" in text
    assert "| unadapted | 50.0 | 10.0 |" in text
    assert "| FT (2 of 3 seeds) | 50.0 ± 0.0 | 13.0 ± 1.4 |" in text
    assert "`runs/p` gives masks without embeddings" in text
    assert "1,200 pairs of 80 nouns from one caption a photo" in text
    assert "Of 1 directions: 1 agrees." in text
    told = json.loads(path.with_suffix(".json").read_text())
    assert told["missing"] == ["ft (seed 2)"]
    assert told["spreads"]["ft"]["clip"]["seeds"] == 2
    assert told["runs"]["start seed 0"] == NUMBERS


def test_a_whole_report_tells_the_time(tmp_path):
    write_report(tmp_path / "a.md", results([12.0, 13.0, 14.0]), Spent("total", 600.0, 300.0), {})
    assert "All 4 runs are here; they took 5 minutes of one CPU core" in (
        (tmp_path / "a.md").read_text()
    )


def test_time_is_added_up_over_interrupted_calls(tmp_path):
    ledger = Ledger(tmp_path / "deep" / "seconds.jsonl")
    with pytest.raises(KeyboardInterrupt), ledger.time("train"):
        raise KeyboardInterrupt
    with ledger.time("train"), ledger.time("other"):
        pass
    lines = [json.loads(line) for line in ledger.path.read_text().splitlines()]
    assert [line["step"] for line in lines] == ["train", "other", "train"]
    train = sum(line["wall"] for line in lines if line["step"] == "train")
    assert ledger.total({"train"}).wall == pytest.approx(train)
