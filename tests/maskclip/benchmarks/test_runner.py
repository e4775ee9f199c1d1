"""Batches, processes, and going on after a stop."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from maskclip.benchmarks.runner import Workforce, measure_all


@dataclass(frozen=True)
class Squares:
    """Squares numbers, writing down which; fails at one of them."""

    log: Path
    fails_at: int = -1

    def open(self, device):
        assert device == "cpu"

        def measure(items):
            if self.fails_at in items:
                raise ValueError(f"{self.fails_at} cannot be read")
            with self.log.open("a") as file:
                file.write("".join(f"{item}\n" for item in items))
            return [[item, item**2] for item in items]

        return measure


def done(log: Path) -> list[int]:
    return sorted(map(int, log.read_text().split()))


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_records_in_order_whatever_the_batches(tmp_path, count, batch_size):
    force = Workforce("cpu", batch_size=batch_size)
    records = measure_all(
        Squares(tmp_path / "log"), range(count), force, progress=tmp_path / "p", facts={}
    )
    assert records == [[item, item**2] for item in range(count)]


def test_it_goes_on_where_it_was(tmp_path):
    log, progress = tmp_path / "log", tmp_path / "deep" / "p"
    force, facts = Workforce("cpu", batch_size=2), {"model": "a"}
    with pytest.raises(ValueError, match="cannot be read"):
        measure_all(Squares(log, 5), range(9), force, progress=progress, facts=facts)
    assert done(log) == [0, 1, 2, 3]
    with progress.open("a") as file:
        file.write('{"batch": 2, "rec')  # killed while writing
    records = measure_all(Squares(log), range(9), force, progress=progress, facts=facts)
    assert records == [[item, item**2] for item in range(9)]
    assert done(log) == list(range(9))  # nothing was done twice


@pytest.mark.parametrize("change", [{"facts": {"model": "b"}}, {"batch_size": 3}])
def test_another_evaluation_starts_anew(tmp_path, caplog, change):
    log, progress = tmp_path / "log", tmp_path / "p"
    measure_all(Squares(log), range(4), Workforce("cpu", batch_size=2), progress=progress, facts={})
    force = Workforce("cpu", batch_size=change.get("batch_size", 2))
    measure_all(Squares(log), range(4), force, progress=progress, facts=change.get("facts", {}))
    assert done(log) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert "of another evaluation: starting anew" in caplog.text
    assert json.loads(progress.read_text().splitlines()[0])["batch_size"] == force.batch_size


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"batch_size": 0}, {"device": "tpu"}])
def test_a_workforce_that_cannot_be(wrong):
    with pytest.raises(ValueError, match="at least 1|no device 'tpu'"):
        Workforce(**{"device": "cpu", **wrong})
