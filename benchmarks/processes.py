"""The processes of a server that is measured, by session and descent."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

import psutil

ENDED = (psutil.Error, ProcessLookupError)


def processes(session: int) -> list[psutil.Process]:
    """Those of a session and what they started, which may have sessions of their own; the oldest first."""
    found = set[psutil.Process]()
    for process in psutil.process_iter():
        with suppress(*ENDED):
            if os.getsid(process.pid) == session:
                found |= {process, *process.children(recursive=True)}
    return sorted(found, key=lambda process: (process.create_time(), process.pid))


def cpu_seconds(session: int) -> float:
    """Processor time of all processes of a session and of those that they started, with children that ended."""
    total = 0.0
    for process in processes(session):
        with suppress(*ENDED):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def workers_of(session: int) -> list[psutil.Process]:
    """The workers of the `kdc serve` that leads a session, the oldest first."""
    return [process for process in processes(session) if "spawn_main" in " ".join(_command(process))]


def megabytes(process: psutil.Process) -> float:
    """Proportional set size; 0 for a process that has just ended."""
    with suppress(*ENDED):
        return float(process.memory_full_info().pss / 1e6)
    return 0.0


def end(those: Iterable[psutil.Process]) -> None:
    """Kill what still lives of them; psutil tells a process from another one that has its number now."""
    for process in those:
        with suppress(*ENDED):
            process.kill()


def _command(process: psutil.Process) -> list[str]:
    with suppress(*ENDED):
        return list(process.cmdline())
    return []
