"""What a step costs."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from proposal.configuration import load_config
from proposal.training_config import ProposalTraining
from proposal.training_speed import measure_step, random_batch

TINY = runpy.run_path(str(Path(__file__).with_name("tiny_training.py")))


def test_random_batches_are_what_the_loop_takes():
    batch = random_batch(images=3, masks=4, side=64, classes=5)
    assert batch.images.shape == (3, 3, 64, 64)
    for target in batch.targets:
        assert target.masks.shape == (4, 64, 64) and target.masks.any(dim=(1, 2)).all()
        assert target.labels.max() < 5
    again = random_batch(images=3, masks=4, side=64, classes=5)
    assert (again.images == batch.images).all()


@pytest.mark.slow
@pytest.mark.parametrize("classifier", ["objectness", "text"])
def test_a_step_is_measured_in_a_process_of_its_own(classifier):
    config = load_config(ProposalTraining, None, TINY["SETTINGS"])
    config = replace(config, proposer=replace(config.proposer, classifier=classifier))
    cost = measure_step(config, images=2, masks=2, repeats=1)
    assert 0 < cost.seconds < 60 and cost.peak_mib > 100
