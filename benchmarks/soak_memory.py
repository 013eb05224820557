"""Memory of a server's processes over time, and whether it is flat."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.processes import megabytes, processes, workers_of

GROWTH = 0.05
"""Largest growth of a median that is flat, as a share."""
SHORTEST_MINUTES = 10.0
"""A shorter run only says what warming up takes."""
CRITERION = (
    f"flat: the median of the last quarter of the samples is at most {1 + GROWTH:g} times that of the second quarter, "
    "of all processes together, of the supervisor, and of the worker that is never killed"
)


@dataclass(frozen=True)
class Sample:
    """Proportional set sizes in MB (10^6 bytes) at a time in seconds; workers: the oldest first."""

    second: float
    supervisor: float
    workers: tuple[float, ...]
    others: float

    @property
    def total(self) -> float:
        """Of all processes."""
        return self.supervisor + sum(self.workers) + self.others

    def row(self) -> list[Any]:
        """As it is recorded: second, supervisor, [workers], others."""
        return [round(self.second), round(self.supervisor, 1), [round(each, 1) for each in self.workers], self.others]


def sample(session: int, second: float) -> Sample:
    """The memory of a session now."""
    workers = workers_of(session)
    rest = [each for each in processes(session) if each not in workers]
    supervisor = sum(megabytes(each) for each in rest if each.pid == session)
    others = sum(megabytes(each) for each in rest if each.pid != session)
    return Sample(second, supervisor, tuple(map(megabytes, workers)), round(others, 1))


def judge(samples: Sequence[Sample], minutes: float) -> dict[str, Any]:
    """Medians in MB of the second and the last quarter with their ratio; `flat`, None for a run that is too short."""
    quarter = len(samples) // 4
    told: dict[str, Any] = {"criterion": CRITERION, "flat": None}
    if not quarter:
        return told
    ratios = []
    for name, values in (
        ("all", [each.total for each in samples]),
        ("supervisor", [each.supervisor for each in samples]),
        ("oldest_worker", [each.workers[0] if each.workers else 0.0 for each in samples]),
    ):
        early, late = statistics.median(values[quarter : 2 * quarter]), statistics.median(values[-quarter:])
        ratios.append(late / early)
        told[name] = {
            "second_quarter": round(early, 1),
            "last_quarter": round(late, 1),
            "ratio": round(late / early, 3),
        }
    if minutes >= SHORTEST_MINUTES:
        told["flat"] = max(ratios) <= 1 + GROWTH
    return told
