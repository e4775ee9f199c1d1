from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch

from proposal.cpu_threads import cpu_threads


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_threads_are_as_many_as_asked_and_then_as_before():
    with cpu_threads(2):
        assert torch.get_num_threads() == 2
        with cpu_threads(1):
            assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_zero_changes_nothing():
    with cpu_threads(0):
        assert torch.get_num_threads() == 3


def test_an_error_gives_them_back():
    with pytest.raises(KeyError), cpu_threads(2):
        raise KeyError
    assert torch.get_num_threads() == 3


def test_blocks_that_run_at_once_give_back_what_was_before_all_of_them():
    together = Barrier(2)

    def work() -> int:
        torch.set_num_threads(3)
        together.wait()
        with cpu_threads(2):
            together.wait()
        return torch.get_num_threads()

    with ThreadPoolExecutor(2) as pool:
        assert [job.result() for job in [pool.submit(work) for _ in range(2)]] == [3, 3]
