"""The processes of one training: their start, and what they have to agree on."""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.engine import launch
from detectron2.utils import comm
from torch import distributed, nn
from torch.multiprocessing import ProcessExitedException, get_context
from torch.nn.parallel import DistributedDataParallel

EXPECTED = (ValueError, OSError, RuntimeError)  # errors that are told in one sentence


@dataclass(frozen=True)
class Processes:
    """How many processes train, and where; one per GPU, or on the CPU where there is none.

    Raises:
        ValueError: a number does not fit this machine or the others.
    """

    per_machine: int = 1
    machines: int = 1
    machine_rank: int = 0
    url: str = "auto"  # of machine 0: tcp://<its address>:<a free port>

    def __post_init__(self) -> None:
        for flag, number in (("gpus", self.per_machine), ("machines", self.machines)):
            if number < 1:
                raise ValueError(f"--num-{flag} must be at least 1, got {number}")
        gpus = torch.cuda.device_count()
        if gpus and self.per_machine > gpus:
            raise ValueError(
                f"--num-gpus must be at most this machine's {gpus}, got {self.per_machine}"
            )
        if not 0 <= self.machine_rank < self.machines:
            raise ValueError(
                f"--machine-rank must be 0 to {self.machines - 1}, got {self.machine_rank}"
            )
        if self.machines > 1 and self.url == "auto":
            raise ValueError(
                "--num-machines needs --dist-url, the address of machine 0, such as "
                "tcp://10.0.0.1:29500"
            )

    @property
    def all(self) -> int:
        """The processes of all machines."""
        return self.per_machine * self.machines


def start_processes(work: Callable[..., None], args: tuple, processes: Processes) -> None:
    """Call ``work(*args)`` in each process (here, where there is one only) and wait for them.

    Raises:
        RuntimeError: a process failed; the message is that of its error.
        KeyboardInterrupt: the user stopped them.
    """
    if processes.all == 1:
        work(*args)
        return
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    told = get_context("spawn").SimpleQueue()
    try:
        launch(
            _work_and_tell,
            processes.per_machine,
            processes.machines,
            processes.machine_rank,
            processes.url,
            args=(told, work, args),
        )
    except ProcessExitedException as ended:
        message = f"a training process ended with code {ended.exit_code}"
        message = message if told.empty() else told.get()
        if ended.exit_code == INTERRUPTED:
            raise KeyboardInterrupt from ended
        raise RuntimeError(message) from ended


INTERRUPTED = 130  # exit code of a process that the user stopped


def _work_and_tell(told: Any, work: Callable[..., None], args: tuple) -> None:
    try:
        work(*args)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except EXPECTED as error:
        told.put(str(error))
        sys.exit(2)
    except Exception as error:
        traceback.print_exc()
        told.put(f"{type(error).__name__}: {error}")
        sys.exit(1)


def own_device() -> torch.device:
    """Where this process trains: its GPU, or the CPU where there is none."""
    if torch.cuda.is_available():
        return torch.device("cuda", comm.get_local_rank())
    return torch.device("cpu")


def spread(step: nn.Module) -> nn.Module:
    """The same module, its gradients averaged over all processes where there are several."""
    if comm.get_world_size() == 1:
        return step
    device = own_device()
    ids = [device.index] if device.type == "cuda" else None
    # Said of depthwise convolutions, and of no consequence
    warnings.filterwarnings("ignore", "Grad strides do not match", UserWarning)
    return DistributedDataParallel(step, device_ids=ids, forward_sync_buffers=False)


def any_process(flag: bool) -> bool:
    """Whether it is true in any process; all of them must ask."""
    return bool(mean_over_processes([float(flag)])[0] > 0)


def mean_over_processes(values: list[float]) -> list[float]:
    """Each value's mean over all processes; all of them must ask with as many values."""
    if comm.get_world_size() == 1:
        return values
    sums = torch.tensor(values, dtype=torch.float64, device=own_device())
    distributed.all_reduce(sums)
    return (sums / comm.get_world_size()).tolist()
