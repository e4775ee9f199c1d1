import json
import runpy
from pathlib import Path

call = runpy.run_path(str(Path(__file__).with_name("calling.py")))["caller"]("ablation")
RECIPE = """
shared: {shared}
output: {output}
proposer: superpixels
runs: [{{name: start}}]
tables: [{{title: Adaptation, columns: [top1], rows: [{{title: unadapted, run: start}}]}}]
"""


def test_the_report_of_a_recipe_of_which_nothing_is_done(tmp_path, monkeypatch, capsys):
    config, report = tmp_path / "recipe.yaml", tmp_path / "docs" / "a.md"
    config.write_text(RECIPE.format(shared=tmp_path, output=tmp_path / "runs"))
    assert call(monkeypatch, "--config", config, "--report", report, "--only-report") == 0
    assert "| unadapted | – |" in capsys.readouterr().out
    assert json.loads(report.with_suffix(".json").read_text())["missing"] == ["start (seed 0)"]


def test_what_is_wrong_is_said_in_one_sentence(tmp_path, monkeypatch, capsys):
    config = tmp_path / "recipe.yaml"
    config.write_text(RECIPE.format(shared=tmp_path, output=tmp_path / "runs"))
    report = tmp_path / "a.md"
    assert call(monkeypatch, "--config", config, "--report", report) == 2
    assert "ablation: error: expected a folder that holds data/" in capsys.readouterr().err
    assert call(monkeypatch, "--config", tmp_path / "none.yaml", "--report", report) == 2
    assert "there is no configuration file" in capsys.readouterr().err
    assert not report.exists()
