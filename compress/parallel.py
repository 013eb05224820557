"""Several processes on one job, as `torchrun` and `accelerate launch` start them; one process needs none of this.

The first process (rank 0) decides, writes and speaks. The others do their share of what is shared, and otherwise wait.
Torch is imported only where there is more than one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from compress.errors import EnvironmentProblem

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

T = TypeVar("T")

LONGEST_WAIT = timedelta(days=7)
"""The others wait while the first process works alone; should it die, its launcher ends the others."""


def processes() -> int:
    """How many processes share the job."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0")) if processes() > 1 else 0


def local_rank() -> int:
    """Which of them on this machine this is, from 0; its GPU has this number."""
    return int(os.environ.get("LOCAL_RANK", "0")) if processes() > 1 else 0


def is_first() -> bool:
    """Whether this process decides, writes and speaks."""
    return rank() == 0


@contextmanager
def joined() -> Iterator[None]:
    """Meet the other processes, through gloo on CPUs and NCCL on GPUs, and part from them at the end, however it comes.

    A process that exits without parting may be aborted by the threads that still listen for the others.

    Raises:
        EnvironmentProblem: there are more processes than GPUs on this machine.
    """
    if processes() == 1:
        yield
        return
    import torch
    from accelerate import PartialState

    number, there = local_rank(), torch.cuda.device_count()
    if torch.cuda.is_available() and number >= there:
        raise EnvironmentProblem(
            f"process {number} of this machine has no GPU of its own, there are {there}; start no more processes"
        )
    PartialState(cpu=not torch.cuda.is_available(), timeout=LONGEST_WAIT)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def agree(value: T) -> T:
    """What the first process says, in all of them; the others' own value is dropped."""
    if processes() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    held: list[Any] = [value]
    broadcast_object_list(held)
    said: T = held[0]
    return said


def wait() -> None:
    """Go on when all processes are here."""
    agree(None)


def share_of(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """This process's rows of a step, dealt in turn; the last row is repeated where there are too few for all.

    Rows are near each other in length, so that every process has about the same work.
    """
    import numpy as np

    count = processes()
    if count == 1:
        return rows
    own = rows[rank() :: count]
    missing = -(-len(rows) // count) - len(own)
    return np.concatenate([own, np.repeat(rows[-1:], missing)])


def gathered(own: torch.Tensor, rows: int) -> torch.Tensor:
    """What all processes computed for their shares, in the order of the step's rows: [S, …] -> [rows, …].

    Gradients flow to this process's own share only: each computes the same loss from all rows, and a share of its
    gradient. `add_gradients` puts the shares together.
    """
    if processes() == 1:
        return own
    import torch

    parts = [torch.empty_like(own) for _ in range(processes())]
    torch.distributed.all_gather(parts, own.detach().contiguous())
    parts[rank()] = own
    return torch.stack(parts, 1).flatten(0, 1)[:rows]


def add_gradients(module: torch.nn.Module) -> None:
    """Sum each parameter's gradient over the processes."""
    if processes() == 1:
        return
    import torch

    for parameter in module.parameters():
        if parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)


def share_buffers(module: torch.nn.Module) -> None:
    """Give all processes the first one's buffers: each normalises its own share of a step, by statistics of its own."""
    if processes() == 1:
        return
    import torch

    for buffer in module.buffers():
        torch.distributed.broadcast(buffer, src=0)
