"""Who answers in a bench: the model in this process, or the same model in several processes of their own.

Several processes of few threads are the usual way to serve from many cores. Each has its own model, is pinned before it
loads that, and asks itself: between processes nothing is sent while calls are timed but the word to begin.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from compress.bench.lanes import Answering, Instruments, Lane, open_lane, opened
from compress.errors import EnvironmentProblem, KdcError

if TYPE_CHECKING:
    from compress.recipe import Bench
    from compress.runtime.predictor import Request

Calls = Sequence[Sequence["Request"]]
"""The requests of each call, one after the other."""
END_SECONDS = 5.0


@dataclass(frozen=True)
class Asked:
    """Timed calls: the latency of each in ns, processor time of all, and from the first call to the last answer."""

    calls: list[int]
    cpu: int
    span: int


class Asker(Protocol):
    """What is asked in turns: one process or several, each with the same model and with calls of its own."""

    processes: int

    def prepare(self, calls: Sequence[Calls], untimed: int) -> None:
        """Take the calls of each process, and make the first few of them untimed."""
        ...

    def ask(self) -> Asked:
        """Make the calls that were prepared, all processes at once."""
        ...

    def encode(self) -> list[int]:
        """Only read the texts of the same calls; nanoseconds of each."""
        ...

    def close(self) -> None:
        """End what was started for it."""
        ...


class Alone:
    """A model in this process."""

    processes = 1

    def __init__(self, model: Answering, clock_ns: Callable[[], int], cpu_ns: Callable[[], int]) -> None:
        self.model, self._clock, self._cpu = model, clock_ns, cpu_ns
        self._calls: Calls = ()

    def prepare(self, calls: Sequence[Calls], untimed: int) -> None:
        """See Asker."""
        (self._calls,) = calls
        for number in range(untimed):
            batch = self._calls[number % len(self._calls)]
            self.model.answer(batch, batch_size=len(batch))

    def ask(self) -> Asked:
        """See Asker; the span is that of the calls alone."""
        cpu, took = self._cpu(), []
        for batch in self._calls:
            start = self._clock()
            self.model.answer(batch, batch_size=len(batch))
            took.append(self._clock() - start)
        return Asked(took, self._cpu() - cpu, sum(took))

    def encode(self) -> list[int]:
        """See Asker."""
        took = []
        for batch in self._calls:
            start = self._clock()
            self.model.encode(batch)
            took.append(self._clock() - start)
        return took

    def close(self) -> None:
        """There is nothing to end."""


@dataclass(frozen=True)
class _Prepare:
    """An order; the others are words."""

    calls: Calls
    untimed: int


_Order = _Prepare | Literal["ask", "encode"]


@dataclass(frozen=True)
class _Timed:
    """What a process says of `ask`: when it began and ended by the clock that all processes have."""

    asked: Asked
    began: int
    ended: int


class Team:
    """A model in several processes, each pinned to its cores where these are given.

    Raises:
        KdcError: what a process met when it opened the model.
        EnvironmentProblem: a process ended.
    """

    def __init__(
        self, folder: Path, threads: int, target: str, *, processes: int, affinity: Sequence[Sequence[int]] | None
    ) -> None:
        self.processes, self._folder = processes, folder
        context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks in an unknown state
        self._members = []
        for number in range(processes):
            here, there = context.Pipe()
            cores = None if affinity is None else tuple(affinity[number])
            member = context.Process(target=_work, args=(there, folder, threads, target, cores), daemon=True)
            member.start()
            there.close()  # else nobody would notice that the process is gone
            self._members.append((member, here))
        try:
            for number in range(processes):
                self._hear(number)
        except BaseException:  # Ctrl-C too must not leave processes behind
            self.close()
            raise

    def prepare(self, calls: Sequence[Calls], untimed: int) -> None:
        """See Asker."""
        self._all([_Prepare(own, untimed) for own in calls])

    def ask(self) -> Asked:
        """See Asker; the span is from the first process's beginning to the last one's end."""
        found: list[_Timed] = self._all(["ask"] * self.processes)
        return Asked(
            [took for timed in found for took in timed.asked.calls],
            sum(timed.asked.cpu for timed in found),
            max(timed.ended for timed in found) - min(timed.began for timed in found),
        )

    def encode(self) -> list[int]:
        """See Asker."""
        return [took for each in self._all(["encode"] * self.processes) for took in each]

    def close(self) -> None:
        """End all processes."""
        for _, connection in self._members:
            connection.close()
        for member, _ in self._members:
            member.join(END_SECONDS)
            if member.is_alive():
                member.kill()
                member.join()

    def _all(self, orders: Sequence[_Order]) -> list[Any]:
        for (_, connection), order in zip(self._members, orders, strict=True):
            with suppress(OSError):  # it is gone; hearing from it says how
                connection.send(order)
        return [self._hear(number) for number in range(self.processes)]

    def _hear(self, number: int) -> Any:
        member, connection = self._members[number]
        try:
            said = connection.recv()
        except (EOFError, OSError) as error:
            member.join(END_SECONDS)
            raise EnvironmentProblem(
                f"process {number + 1} of {self.processes} that ran {self._folder} ended with {member.exitcode}; is "
                "there memory for so many? Try fewer --processes"
            ) from error
        if isinstance(said, KdcError):
            raise said
        return said


def open_asker(lane: Lane, threads: int, bench: Bench, tools: Instruments) -> Asker:
    """What answers a lane's requests: in this process, unless several or certain cores are asked for.

    Raises:
        DataError: the target does not run the model; says why.
        IntegrityError: a file of it is damaged.
        EnvironmentProblem: a process ended, or a GPU was asked for and not got.
    """
    if bench.processes == 1 and bench.affinity is None:
        return Alone(open_lane(lane, threads, tools), tools.clock_ns, tools.cpu_ns)

    def started(folder: Path, threads: int, target: str) -> Team:
        return Team(folder, threads, target, processes=bench.processes, affinity=bench.affinity)

    return opened(lane, threads, started)


def _work(orders: Connection, folder: Path, threads: int, target: str, cores: tuple[int, ...] | None) -> None:
    """A process of a team: pin, load, obey until the other end is closed."""
    from compress.bench.targets import open_model

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process decides
    if cores is not None:
        os.sched_setaffinity(0, cores)  # before any runtime counts cores or starts threads
    try:
        model = open_model(folder, threads, target)
    except KdcError as error:
        orders.send(error)
        return
    with suppress(EOFError, ConnectionError):  # the other end was closed: there is nothing more to do
        orders.send(None)
        obey(orders, Alone(model, time.perf_counter_ns, time.process_time_ns))


def obey(orders: Connection, alone: Alone) -> None:
    """Do what a Team asks, until it closes its end.

    Raises:
        EOFError: it did.
    """
    gc.disable()  # a pause would land in somebody's p99
    while True:
        order: _Order = orders.recv()
        try:
            orders.send(_obeyed(order, alone))
        except KdcError as error:
            orders.send(error)


def _obeyed(order: _Order, alone: Alone) -> Any:
    if isinstance(order, _Prepare):
        gc.collect()
        return alone.prepare([order.calls], order.untimed)
    if order == "encode":
        return alone.encode()
    began = time.perf_counter_ns()
    return _Timed(alone.ask(), began, time.perf_counter_ns())
