"""How fast the processor itself is just now, told by a fixed piece of work between turns.

A neighbour on the same physical core, heat or a hypervisor slow a processor down without a counter in the system that
says so. Whether a round is disturbed is judged by this work alone, never by the latencies of what is timed, so that
leaving such rounds out does not choose among the latencies of an undisturbed machine.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

WORK = 20_000
"""Additions of a look's repeat: somewhat below a millisecond."""
REPEATS = 5
TOLERANCE = 1.15
"""How much slower than the best look one may be: looks of an undisturbed core differ by less than a tenth."""


def pace_notes(disturbed: int, rounds: int) -> list[str]:
    """A sentence when rounds count in which the processor was slow."""
    if not disturbed:
        return []
    return [
        f"in {disturbed} of {rounds} rounds the processor was more than {TOLERANCE - 1:.0%} slower than at its best, "
        "by a fixed piece of work beside the requests (neighbours on the same machine, heat): unsafe to quote"
    ]


def work_ns(clock_ns: Callable[[], int] = time.perf_counter_ns) -> int:
    """Median time of the fixed work, in nanoseconds; takes about 4 ms."""
    return int(statistics.median(_once(clock_ns) for _ in range(REPEATS)))


def _once(clock_ns: Callable[[], int]) -> int:
    before, total = clock_ns(), 0
    for number in range(WORK):
        total += number
    return clock_ns() - before


class Pace:
    """Looks at the processor, and the best of them so far."""

    def __init__(self, work: Callable[[], int] = work_ns) -> None:
        self._work = work
        self._best: float = math.inf

    def look(self) -> int:
        """Nanoseconds of the fixed work now."""
        found = self._work()
        self._best = min(self._best, found)
        return found

    def slow(self, look: int) -> bool:
        """Whether a look found the processor slower than it can be."""
        return look > TOLERANCE * self._best
