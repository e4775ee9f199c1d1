"""The command: exit codes, sentences, kills and Ctrl-C."""

import json
import os
import random
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from maskclip.pairs import read_pairs

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "self_label.py"
call = runpy.run_path(str(Path(__file__).with_name("calling.py")))["caller"]("self_label")
CAPTIONED = runpy.run_path(str(ROOT / "tests" / "labeling" / "captioned.py"))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    CAPTIONED["write_captioned"](tmp_path, 5)


def arguments(model: Path | str, **changes: str) -> list[str]:
    flags = {"images": "photos", "captions": "captions.jsonl", "output": "out"}
    flags |= {"model": str(model), "device": "cpu", "workers": "1"} | changes
    return [part for name, value in flags.items() for part in (f"--{name}", value) if value]


def test_pairs_numbers_and_where_to_look(monkeypatch, capsys, tiny_checkpoint):
    assert call(monkeypatch, *arguments(tiny_checkpoint, export="coco")) == 0
    told = capsys.readouterr()
    rows = read_pairs("out")
    assert re.search(rf"pairs +{rows.num_rows}\n", told.out)
    assert "look at out/pairs.html" in told.out
    assert "exported to out/instances.json" in told.out
    assert f"{rows.num_rows} pairs" in told.err  # the progress bar
    run = json.loads(Path("out/run.json").read_text())
    assert run["images"] == str(Path("photos").resolve())
    assert run["config"]["match"]["top_k"] == 1
    assert call(monkeypatch, "--output", "out", "--export", "crops") == 0
    assert "out/crops/crops.tsv" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": ""}, "--images and --captions are needed"),
        ({"images": "nowhere"}, "there is no folder nowhere"),
        ({"captions": "nowhere.json"}, "there is no captions file nowhere.json"),
        ({"captions": "photos/000.png"}, "must be COCO captions"),
        ({"captions": "damaged.tsv"}, "line 1 of damaged.tsv must be a file and a caption"),
        ({"output": "captions.jsonl"}, "cannot write into captions.jsonl"),
        ({"output": "out", "model": "no_such_model"}, "there is no model 'no_such_model'"),
        ({"proposer": "no_such_proposer"}, "no_such_proposer"),
        ({"clip": "no_such_clip"}, "no_such_clip"),
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"engine": "spark"}, "invalid choice"),
        ({"workers": "0"}, "workers must be at least 1"),
        ({"batch-size": "0"}, "batch_size must be at least 1"),
        ({"shard-size": "-1"}, "shard_size must be at least 1"),
        ({"top-k": "0"}, "top_k must be at least 1"),
        ({"min-score": "7"}, "min_score is a cosine"),
        ({"captions-per-image": "none"}, "captions_per_image must be all, or 1 or more"),
        ({"stop-nouns": "nowhere.txt"}, "no file of stop nouns nowhere.txt"),
        ({"set": "segmentor.no_such_key=1"}, "known are .*mask_threshold"),
    ],
)
def test_wrong_arguments_exit_2_and_write_nothing(
    monkeypatch, capsys, tiny_checkpoint, changes, message
):
    Path("damaged.tsv").write_text("only one cell\n")
    args = arguments(**({"model": tiny_checkpoint} | changes))
    assert call(monkeypatch, *args) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert "Traceback" not in error
    assert not Path("out").exists()


def test_where_no_photo_can_be_read_the_exit_code_is_1(monkeypatch, capsys, tiny_checkpoint):
    for photo in Path("photos").iterdir():
        photo.write_bytes(b"no photo")
    assert call(monkeypatch, *arguments(tiny_checkpoint)) == 1
    assert "5 photos were left out, out/skipped.jsonl says why" in capsys.readouterr().out


def test_another_run_in_the_folder_exits_2(monkeypatch, capsys, tiny_checkpoint):
    assert call(monkeypatch, *arguments(tiny_checkpoint)) == 0
    assert call(monkeypatch, *arguments(tiny_checkpoint, **{"top-k": "2"})) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("self_label: error: out holds a run with other settings or inputs: ")
    assert "match.top_k was 1, is 2; give another --output" in error
    assert call(monkeypatch, "--output", "nowhere", "--export", "coco") == 2
    assert "nowhere holds no finished run" in capsys.readouterr().err


def test_ctrl_c_exits_130_and_the_same_command_goes_on(
    monkeypatch, capsys, tmp_path, tiny_checkpoint
):
    CAPTIONED["write_captioned"](tmp_path / "many", 40)
    args = arguments(
        tiny_checkpoint,
        **{"images": "many/photos", "captions": "many/captions.jsonl", "shard-size": "2"},
    )

    def press_ctrl_c() -> None:
        while not list(tmp_path.glob("out/*.parquet")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press_ctrl_c, daemon=True).start()
    assert call(monkeypatch, *args) == 130
    assert "stopped; the same command goes on" in capsys.readouterr().err
    done = len(list(tmp_path.glob("out/*.parquet")))
    assert 0 < done < 20
    assert not list(tmp_path.glob("out/.*.tmp"))
    assert call(monkeypatch, *args) == 0
    assert len(list(tmp_path.glob("out/*.parquet"))) == 20


def kill_after(args: list[str], seconds: float | None) -> int:
    """The exit code; -9 where it was killed so long after it had begun."""
    manifest = Path("killed/manifest.jsonl")
    before = manifest.stat().st_mtime_ns if manifest.exists() else 0
    command = [sys.executable, str(TOOL), *args]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        while running.poll() is None:  # what happens before the manifest is written is imports
            if manifest.exists() and manifest.stat().st_mtime_ns != before:
                break
            time.sleep(0.01)
        try:
            running.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            running.kill()
            running.communicate()
        return running.returncode


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_any_moment_a_run_ends_with_the_same_rows(monkeypatch, tiny_checkpoint, workers):
    CAPTIONED["write_captioned"](Path("many"), 60)
    Path("many/photos/013.png").write_bytes(b"no photo")
    where = {"images": "many/photos", "captions": "many/captions.jsonl", "shard-size": "3"}
    assert call(monkeypatch, *arguments(tiny_checkpoint, **where, output="straight")) == 0
    args = arguments(tiny_checkpoint, **where, output="killed", workers=str(workers))
    rng = random.Random(workers)
    codes = [kill_after(args, rng.uniform(0, 1.5 + 3 * (workers - 1))) for _ in range(4)]
    assert codes.count(-signal.SIGKILL) >= 2
    assert kill_after(args, None) == 0
    assert read_pairs("killed").equals(read_pairs("straight"))
    for name in ("manifest.jsonl", "skipped.jsonl", "summary.json", "pairs-00007.parquet"):
        assert Path("killed", name).read_bytes() == Path("straight", name).read_bytes()
