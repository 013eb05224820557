"""Cores that processes are pinned to."""

from __future__ import annotations

import os
from collections.abc import Sequence

from compress.bench.machine import usable
from compress.errors import EnvironmentProblem, RecipeError


def read_cores(text: str) -> tuple[int, ...]:
    """Cores as taskset takes them: `0-3,8`.

    Raises:
        RecipeError: the text is something else, or names a core twice.
    """
    try:
        found = [core for part in text.split(",") for core in _span(part)]
    except ValueError as error:
        raise RecipeError(f"--affinity is {text!r}, but cores are expected, such as 0 or 0-3 or 0,2") from error
    if len(set(found)) != len(found) or not found:
        raise RecipeError(f"--affinity is {text!r}, which names {'a core twice' if found else 'no core'}; mend it")
    return tuple(found)


def _span(part: str) -> range:
    first, dash, last = part.strip().partition("-")
    return range(int(first), int(last if dash else first) + 1)


def check_affinity(affinity: Sequence[Sequence[int]] | None) -> None:
    """Refuse cores that this process may not use.

    Raises:
        EnvironmentProblem: there are such, or the system pins no process.
    """
    if affinity is None:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise EnvironmentProblem("bench.affinity (--affinity): this system pins no process to cores; leave it out")
    there = usable()
    missing = sorted({core for cores in affinity for core in cores} - there)
    if missing:
        raise EnvironmentProblem(
            f"bench.affinity (--affinity) names core {missing[0]}, but this process may use "
            f"{', '.join(map(str, sorted(there)))}; name some of these"
        )


def affinity_text(affinity: Sequence[Sequence[int]] | None) -> str | None:
    """The cores of each process as rows have them: `0,1 2,3`."""
    return None if affinity is None else " ".join(",".join(map(str, cores)) for cores in affinity)
