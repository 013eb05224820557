"""Memory of a server's processes over time, and whether it is flat."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GROWTH = 0.05
"""Largest growth of a median that is flat, as a share."""
SHORTEST_MINUTES = 10.0
"""A shorter run only says what warming up takes."""
CRITERION = (
    f"flat: the median of the last quarter of the samples is at most {1 + GROWTH:g} times that of the second quarter, "
    "of all processes together, of the supervisor, and of the worker that is never killed"
)


@dataclass(frozen=True)
class Process:
    """A living process. born: in ticks since the machine started."""

    pid: int
    born: int
    command: str


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


def processes(session: int) -> list[Process]:
    """All living processes of a session, the oldest first."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                command = (folder / "cmdline").read_text().replace("\0", " ")
                found.append(Process(int(folder.name), int(fields[19]), command))
    return sorted(found, key=lambda process: (process.born, process.pid))


def workers_of(session: int) -> list[int]:
    """Process numbers of the workers of the `kdc serve` that leads a session, the oldest first."""
    return [process.pid for process in processes(session) if "spawn_main" in process.command]


def sample(session: int, second: float) -> Sample:
    """The memory of a session now."""
    workers = workers_of(session)
    others = [each.pid for each in processes(session) if each.pid not in {session, *workers}]
    return Sample(second, _megabytes(session), tuple(map(_megabytes, workers)), round(sum(map(_megabytes, others)), 1))


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


def _megabytes(pid: int) -> float:
    """Proportional set size; 0 for a process that has just ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0
