"""The process keeps what it frees."""

import platform
import resource

import pytest
import torch

from proposal.heap import keep_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_memory_that_is_taken_again_is_not_cleared_again():
    assert keep_freed_memory()
    assert torch.zeros(1 << 22).sum() == 0  # 16 MiB, which makes the heap that large
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.empty(1 << 22).fill_(1)
    # 20 times 4,096 pages where they go back to the system each time
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 3 * 4096
