"""`quantize.method: auto`: build every candidate, drop what loses too much or is slower than float, take the fastest.

The guard, which looks for layers to keep in float, takes minutes for some methods: it is asked only about a candidate
that loses too much and is faster than all that do not. The rows say of every candidate what became of it, so that
nobody has to believe the choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress.bench.results import BenchResult, Scenario
from compress.errors import EnvironmentProblem, KdcError
from compress.progress import reporter

FLOAT = "none"
"""The method that leaves the model in float: every candidate's parent, and the answer where none is better."""
SHIPPED = "shipped"

Row = dict[str, Any]


@dataclass(frozen=True)
class Built:
    """A candidate that stands on disk: its folder, whether its quality holds, and what else its row tells."""

    folder: Path
    accepted: bool
    facts: Mapping[str, Any] = field(default_factory=dict)


def choose(
    methods: Sequence[str],
    build: Callable[[str], Built],
    mend: Callable[[str], Built],
    time: Callable[[Mapping[str, Path]], Mapping[str, BenchResult]],
    scenario: Scenario,
) -> tuple[str, list[Row]]:
    """Pick the fastest candidate that is as good as asked and faster than float.

    Args:
        methods: names of the candidates; FLOAT is their parent and always among them.
        build: makes a candidate. What it raises is the candidate's row, not the end.
        mend: makes one that loses too much again, under the guard.
        time: measures all that were built, taking turns, by name.
        scenario: single-stream compares medians of the latency, offline the throughput.

    Returns:
        Name of the choice, and a row for each candidate: method, outcome, reason, what `build` found, p50_ms, p50_low,
        p50_high, qps and speedup (over float). Outcomes: shipped, slower than the choice, slower than float, below the
        floor, not run, error.

    Raises:
        KdcError: the float model itself cannot be built or timed.
    """
    found: dict[str, Built | Row] = {FLOAT: build(FLOAT)}
    found |= {method: _tried(method, build) for method in methods if method != FLOAT}
    rows = _timed(found, time)
    hopeful = _hopeful(found, rows, scenario)
    if hopeful:
        found |= {method: _tried(method, mend) for method in hopeful}
        rows = _timed(found, time)  # all of them: times of two runs cannot be compared
    built = {method: candidate for method, candidate in found.items() if isinstance(candidate, Built)}
    choice = _judge(rows, built, scenario)
    return choice, [rows[method] for method in dict.fromkeys([FLOAT, *methods])]


def _timed(
    found: Mapping[str, Built | Row], time: Callable[[Mapping[str, Path]], Mapping[str, BenchResult]]
) -> dict[str, Row]:
    """The rows of candidates: those that could be built are timed together."""
    built = {method: candidate for method, candidate in found.items() if isinstance(candidate, Built)}
    timed = time({method: candidate.folder for method, candidate in built.items()})
    told = {
        method: {"method": method, **candidate.facts, **_times(timed[method])} for method, candidate in built.items()
    }
    return {method: dict(row) for method, row in found.items() if not isinstance(row, Built)} | told


def _hopeful(found: Mapping[str, Built | Row], rows: Mapping[str, Row], scenario: Scenario) -> list[str]:
    """Candidates that lose too much and are faster than all that do not."""
    built = {method: candidate for method, candidate in found.items() if isinstance(candidate, Built)}
    taken = {method: seconds for method in built if (seconds := _seconds(rows[method], scenario)) is not None}
    limit = min((seconds for method, seconds in taken.items() if built[method].accepted), default=math.inf)
    return [method for method, seconds in taken.items() if not built[method].accepted and seconds < limit]


def _tried(method: str, build: Callable[[str], Built]) -> Built | Row:
    """A candidate, or the row of one that could not be made."""
    try:
        return build(method)
    except EnvironmentProblem as error:
        return {"method": method, "outcome": "not run", "reason": str(error)}
    except KdcError as error:
        return {"method": method, "outcome": "error", "reason": str(error)}
    except Exception as error:  # a library that fails on one model is no reason to ship nothing
        reporter.warn(f"{method} failed with {type(error).__name__}: {error}")
        return {"method": method, "outcome": "error", "reason": f"{type(error).__name__}: {error}"}


def _times(result: BenchResult) -> Row:
    wanted = ("p50_ms", "p50_low", "p50_high", "qps", "reason")
    return {name: getattr(result, name) for name in wanted}


def _judge(rows: Mapping[str, Row], built: Mapping[str, Built], scenario: Scenario) -> str:
    """Write speed-up and outcome into the rows of what was built; returns the choice."""
    seconds = {method: _seconds(rows[method], scenario) for method in built}
    parent = seconds[FLOAT]
    if parent is None:
        raise KdcError(f"the float model could not be timed ({rows[FLOAT]['reason']}): there is nothing to choose by")
    good: dict[str, float] = {}
    for method, taken in seconds.items():
        row = rows[method]
        row["speedup"] = None if taken is None else parent / taken
        if taken is None:
            row["outcome"] = "not run"
        elif not built[method].accepted:
            row["outcome"] = "below the floor"
        elif method != FLOAT and taken >= parent:
            row["outcome"] = "slower than float"
        else:
            good[method] = taken
    choice = min(good, key=good.__getitem__) if good else FLOAT
    for method in good:
        rows[method]["outcome"] = "slower than the choice"
    rows[choice]["outcome"] = SHIPPED
    return choice


def _seconds(row: Row, scenario: Scenario) -> float | None:
    """What a candidate is compared by, less is better; None where it was not timed."""
    if scenario == "offline":
        return 1 / row["qps"] if row["qps"] else None
    taken: float | None = row["p50_ms"]
    return taken
