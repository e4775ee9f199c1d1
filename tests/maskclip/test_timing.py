"""How long each stage takes."""

import os
import resource

import numpy as np
import pytest
import torch
from open_clip import CLIPTextCfg, CLIPVisionCfg

from maskclip import timing
from maskclip.clip_config import ClipConfig
from maskclip.clip_models import build_clip
from maskclip.segmentor import Segmentor
from maskclip.timing import FULL_SIZE, ROWS, Job, describe_machine, format_table
from proposal.peak_memory import peak_memory
from proposal.proposals import Proposals

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)


class Halves:
    """Proposes the left and the right half, then nothing at all."""

    def propose(self, image: np.ndarray) -> Proposals:
        mask_probs = torch.zeros(3, *image.shape[:2])
        mask_probs[0, :, :30] = mask_probs[1, :, 30:] = 1
        return Proposals(mask_probs, torch.ones(3))


def build_tiny(device: str) -> Segmentor:
    torch.manual_seed(0)
    vision = vars(CLIPVisionCfg(layers=1, width=32, head_width=16, patch_size=8, image_size=16))
    text = vars(CLIPTextCfg(context_length=24, vocab_size=49408, width=32, heads=2, layers=1))
    model = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    return Segmentor(Halves(), build_clip(ClipConfig("tiny", model), device))


@pytest.fixture
def job(monkeypatch) -> Job:
    monkeypatch.setitem(FULL_SIZE, "tiny", build_tiny)
    monkeypatch.setenv("MASKCLIP_CACHE", os.environ.get("MASKCLIP_CACHE", ""))  # to be put back
    return Job("tiny", IMAGE, ["cat", "dog"], repeats=2)


def test_every_row_of_the_table_is_measured(job, tmp_path):
    text_cold = timing._measure_text(job, str(tmp_path))
    assert len(list(tmp_path.rglob("*.f32"))) == 2  # one for each name
    measured = {"text_cold": text_cold, **timing._measure_photo(job, str(tmp_path))}
    assert set(measured) == set(ROWS)
    assert measured["regions"] == 2  # the third proposal is empty
    assert all(number > 0 for number in measured.values())
    stages = sum(measured[stage] for stage in ("propose", "crop", "clip", "assemble"))
    assert stages <= measured["total"]


@pytest.mark.slow
def test_processes_of_their_own_do_the_measuring():
    measured = timing.measure(Job("full-size", IMAGE, ["cat"], repeats=1))
    assert set(measured) == set(ROWS)
    assert measured["regions"] == 100
    assert measured["text_warm"] < measured["text_cold"]


@pytest.mark.parametrize("count", [1, 150, 998])
def test_sample_names_are_as_many_as_asked_for(count):
    names = timing.sample_names(count)
    assert len(names) == len(set(names)) == count


def test_no_more_names_than_there_are():
    with pytest.raises(ValueError, match="1 to 998 in number, got 999"):
        timing.sample_names(999)


def test_a_column_for_each_model():
    table = format_table({"nano": dict.fromkeys(ROWS, 1234.5), "other": dict.fromkeys(ROWS, 0.25)})
    lines = table.splitlines()
    assert lines[2] == "| text, first time (ms)     | 1,234 |   0.2 |"
    assert len(lines) == 2 + len(ROWS)
    assert len({len(line) for line in lines}) == 1


def test_the_machine_is_described():
    assert f"torch {torch.__version__}" in describe_machine()


def test_memory_is_in_mebibytes():
    """Tests have torch loaded, which takes more than 100 MiB, and this machine is no giant."""
    assert 100 < peak_memory() < 100_000
    assert peak_memory() <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 + 50
