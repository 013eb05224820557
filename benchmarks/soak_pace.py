"""How fast a soak asks."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Protocol

from benchmarks.processes import cpu_seconds

PACE_SECONDS, TELL_SECONDS = 10.0, 30.0
LEAST_RATE = 2.0
"""Requests a second, however little they leave of the cores."""


class Told(Protocol):
    """What has come of the requests, and since when (monotonic seconds)."""

    start: float

    def told(self) -> str:
        """Counts so far."""
        ...


class Pace:
    """How many requests a second are asked, so that server and clients together keep within a share of the cores.

    Starts of workers, reloads and the comparison of answers count too: what they take is taken from the rate.
    """

    def __init__(self, session: int, most: float, cores: float, seen: Told) -> None:
        self.session, self.rate, self.most, self.cores, self.seen = session, most / 4, most, cores, seen
        self.first = self._cpu()

    async def keep(self) -> None:
        """Adapt the rate, for ever."""
        while True:
            before, start = self._cpu(), time.monotonic()
            await asyncio.sleep(PACE_SECONDS)
            used = max(1e-3, (self._cpu() - before) / (time.monotonic() - start))
            self.rate = min(self.most, max(LEAST_RATE, self.rate * (self.cores / used) ** 0.5))

    async def tell(self) -> None:
        """A line on stderr, now and then."""
        while True:
            await asyncio.sleep(TELL_SECONDS)
            print(f"soak: {self.seen.told()}, {self.rate:.1f} requests/s, {self.used():.2f} cores", file=sys.stderr)

    def used(self) -> float:
        """Mean number of cores since the start."""
        return (self._cpu() - self.first) / (time.monotonic() - self.seen.start)

    def _cpu(self) -> float:
        return cpu_seconds(self.session) + time.process_time()
