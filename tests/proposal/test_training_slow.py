"""Stage 1's training in processes of its own: killed, split over two, on real photos."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from proposal.checkpoint_files import read_tensors
from proposal.configuration import load_config
from proposal.evaluation import evaluate, open_judge
from proposal.training import build_network
from proposal.training_config import ProposalTraining
from proposal.training_metrics import read_metrics
from proposal.training_state import saved_folders

ROOT = Path(__file__).resolve().parents[2]
TINY = runpy.run_path(str(Path(__file__).with_name("tiny_training.py")))
TOOL = [sys.executable, str(ROOT / "tools" / "train_net.py"), "--stage", "proposal"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    TINY["write_data"](folder)
    return folder


def command(data: Path, output: Path, *arguments: str, settings: tuple[str, ...] = ()) -> list:
    common = ["--config", str(data / "config.yaml"), "--output", str(output), *arguments]
    return [*TOOL, *common, "--set", *TINY["SETTINGS"], *settings]


def run(*arguments) -> None:
    done = subprocess.run(
        command(*arguments[:2], *arguments[2]["flags"], settings=arguments[2]["settings"]),
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr


def test_a_killed_training_ends_with_the_same_weights(data, tmp_path):
    """kill -9 in the middle; then --resume, with other helpers' numbers: equal to the last bit."""
    settings = (
        "train.iterations=30",
        "train.checkpoint_iterations=4",
        "train.workers=1",
        "proposer.dropout=0.1",
        "train.threads=1",
    )
    run(data, tmp_path / "whole", {"flags": (), "settings": settings})
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        command(data, killed, settings=settings),
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 200
    while not saved_folders(killed) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert saved_folders(killed)
    interrupted = saved_folders(killed)[0].name != "iteration_0000030"
    more = (*settings[:2], "train.workers=0", *settings[3:])
    run(data, killed, {"flags": ("--resume",), "settings": more})
    expected, found = read_tensors(tmp_path / "whole"), read_tensors(killed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    told = [
        [(line["iteration"], line["total_loss"], line["lr"]) for line in read_metrics(path)]
        for path in (tmp_path / "whole" / "metrics.jsonl", killed / "metrics.jsonl")
    ]
    assert told[0] == told[1] and len(told[0]) == 30
    resumed = json.loads((killed / "run.json").read_text()).get("resumed", [])
    assert interrupted and len(resumed) == 1


def test_two_processes_learn_what_one_does_with_the_doubled_batch(data, tmp_path):
    settings = (
        "train.batch_size=4",
        "proposer.dropout=0",
        "data.augment.flip=false",
        "data.augment.colour=false",
        "data.augment.zoom=[1,1]",
        "train.iterations=6",
        "train.lr=1e-3",
        "train.threads=1",
    )
    run(data, tmp_path / "one", {"flags": (), "settings": settings})
    run(data, tmp_path / "two", {"flags": ("--num-gpus", "2"), "settings": settings})
    one, two = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    assert len(one) == len(two) == 6
    for alone, together in zip(one, two, strict=True):
        for name in (name for name in alone if "loss" in name):
            assert together[name] == pytest.approx(alone[name], abs=1e-4), name
    assert json.loads((tmp_path / "two" / "run.json").read_text())["environment"]["processes"] == 2


def test_an_error_in_a_process_is_one_sentence(data, tmp_path):
    done = subprocess.run(
        command(data, tmp_path / "o", "--num-gpus", "2", settings=("train.batch_size=3",)),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("train_net: error: train.batch_size must be a multiple of 2")
    assert "Traceback" not in done.stderr and not (tmp_path / "o").exists()


REAL = """
proposer:
  backbone: {type: "timm:mobilenetv2_100", pad_type: same}
  hidden_dim: 128
  dim_feedforward: 256
  conv_dim: 64
  mask_dim: 64
  class_hidden_dim: 128
  num_queries: 50
  dec_layers: 2
  dropout: 0.0
  query_init: grid
  places: true
  soft_boxes: true
  short_side: 192
  max_size: 384
  pixel_mean: [127.5, 127.5, 127.5]
  pixel_std: [127.5, 127.5, 127.5]
backbone: {weights: "{shared}/weights/mobilenetv2_100_voc_deeplab.safetensors"}
criterion: {mask_loss_stride: 4, weights: {class_weight: 2, focal_weight: 20, dice_weight: 5}}
train:
  frozen: [backbone.body.conv_stem, backbone.body.blocks.0, backbone.body.blocks.1]
  iterations: 120
  batch_size: 8
  lr: 2.0e-3
  weight_decay: 0.05
  warmup_iterations: 10
  clip_norm: 1.0
  ema_decay: 0.9
  workers: 0
  threads: 1
  log_iterations: 10
data:
  held_out: "{shared}/data/splits/coco_val.txt"
  sides: [160]
  cache_short_side: 240
  augment: {zoom: [0.7, 2.0], min_area: 30}
  sources:
    - {images: "{shared}/data/coco/images", instances: "{shared}/data/coco/instances.json"}
    - images: "{shared}/data/bsds500_train/images"
      regions: "{shared}/data/bsds500_train/regions"
      weight: 0.3
"""


def test_a_real_run_learns_about_photos_it_never_saw(shared, tmp_path):
    """Two minutes' training on COCO's and BSDS's photos; measured on 40 that nothing trains on."""
    instances = json.loads((shared / "data" / "coco" / "instances.json").read_text())
    unseen = (shared / "data" / "splits" / "coco_val.txt").read_text().split()[:40]
    instances["images"] = [each for each in instances["images"] if each["file_name"] in unseen]
    (tmp_path / "unseen.json").write_text(json.dumps(instances))
    settings = yaml.safe_load(REAL)
    settings["data"]["folders"] = {"shared": str(shared), "here": str(tmp_path)}
    settings["data"]["validation"] = {
        "images": "{shared}/data/coco/images",
        "instances": "{here}/unseen.json",
    }
    (tmp_path / "real.yaml").write_text(yaml.safe_dump(settings))
    arguments = ["--config", str(tmp_path / "real.yaml"), "--output", str(tmp_path / "run")]
    done = subprocess.run(
        [*TOOL, *arguments],
        capture_output=True,
        text=True,
        timeout=1200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    config = load_config(ProposalTraining, tmp_path / "real.yaml", [])
    torch.set_num_threads(1)
    torch.manual_seed(config.train.seed)
    before = open_judge(config)(build_network(config, None))
    after = evaluate(config, tmp_path / "run")
    losses = [line["total_loss"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert losses[-1] < 0.9 * losses[0]
    assert after["AR@100"] > 1.2 * before["AR@100"]
    assert after["best_overlap"] > before["best_overlap"] + 1.5
