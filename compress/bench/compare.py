"""Two sets of bench results side by side: ratios of what both measured, with intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compress.errors import DataError

Row = Mapping[str, Any]
Key = tuple[Any, ...]
SAME = ("artifact", "target", "scenario", "threads", "processes", "affinity", "batch", "length", "load", "offered_qps")
"""What two rows must have in common to be compared."""
OLDER = {"processes": 1}
"""What rows without the field mean."""
SEARCHED = "p99_bound_ms"
"""Rows of a search for the highest rate are compared at their bound, for the rate is what was measured."""
FIGURES = ("p50_ms", "p99_ms", "qps", "offered_qps", "cpu_ms", "peak_mb", "size_bytes")
INTERVALS = {"p50_ms": ("p50_ci_low", "p50_ci_high"), "p99_ms": ("p99_ci_low", "p99_ci_high")}


@dataclass(frozen=True)
class Figure:
    """A figure with its interval, whose ends are None where they are not known."""

    value: float
    low: float | None
    high: float | None


def compare(before: Sequence[Row], after: Sequence[Row]) -> list[dict[str, Any]]:
    """One row for each measurement that both sets have: all of `after`'s row, and `NAME_ratio`, after ÷ before.

    `p50_ms_ratio_low` … `p99_ms_ratio_high` are 95% intervals of the ratios. Where each set holds one artifact, their
    names may differ. Of several rows of one measurement the median counts, with the widest of their intervals and
    values.

    Raises:
        DataError: the sets have no measurement in common.
    """
    named = len({row["artifact"] for row in before}) != 1 or len({row["artifact"] for row in after}) != 1
    old, new = _grouped(before, named=named), _grouped(after, named=named)
    found = [_compared(old[key], rows) for key, rows in new.items() if key in old]
    if not found:
        rows = [*before, *after]
        differing = [name for name in SAME[3:] if len({row.get(name) for row in rows}) > 1]
        raise DataError(
            "the two files have no measurement in common: compared are rows of equal " + ", ".join(SAME) + "; "
            f"the first has {_told(before, differing)}, the second {_told(after, differing)}"
        )
    return found


def ratio(after: Figure, before: Figure) -> Figure:
    """after ÷ before, with the interval that theirs give: MOVER on logarithms (Donner and Zou 2012,
    https://doi.org/10.1177/0962280210389082), for independent measurements."""

    def distance(figure: Figure, end: float | None) -> float | None:
        return None if end is None or end <= 0 else abs(math.log(end / figure.value))

    value = after.value / before.value
    below = _hypotenuse(distance(after, after.low), distance(before, before.high))
    above = _hypotenuse(distance(after, after.high), distance(before, before.low))
    return Figure(
        value,
        None if below is None else value * math.exp(-below),
        None if above is None else value * math.exp(above),
    )


def _hypotenuse(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else math.hypot(one, other)


def _grouped(rows: Sequence[Row], *, named: bool) -> dict[Key, list[Row]]:
    found: dict[Key, list[Row]] = {}
    for row in rows:
        if row["status"] == "ok" and not row.get("partial"):
            found.setdefault(measurement(row, named=named), []).append(row)
    return found


def measurement(row: Row, *, named: bool = True) -> Key:
    """What rows have in common that measure the same; `named`: also the artifact's name."""
    same = [row.get(name, OLDER.get(name)) for name in SAME if named or name != "artifact"]
    if row.get(SEARCHED) is not None:
        same[-1] = f"within {row[SEARCHED]}"
    return tuple(same)


def _compared(before: Sequence[Row], after: Sequence[Row]) -> dict[str, Any]:
    found = dict(after[-1])
    for name in FIGURES:
        old, new = _figure(before, name), _figure(after, name)
        if old is None or new is None:
            continue
        found[name] = new.value
        of = ratio(new, old)
        found[f"{name}_ratio"] = of.value
        if name in INTERVALS or len(before) > 1 or len(after) > 1:
            found |= {f"{name}_ratio_low": of.low, f"{name}_ratio_high": of.high}
    return found


def _figure(rows: Sequence[Row], name: str) -> Figure | None:
    values = [row[name] for row in rows if row.get(name)]
    if not values:
        return None
    low, high = INTERVALS.get(name, (name, name))
    return Figure(statistics.median(values), _end(min, rows, low, values), _end(max, rows, high, values))


def _end(pick: Callable[[Sequence[float]], float], rows: Sequence[Row], name: str, values: list[float]) -> float | None:
    ends: list[float] = [row[name] for row in rows if row.get(name) is not None]
    return pick([*ends, *values]) if len(ends) == len(values) else None


def _told(rows: Sequence[Row], differing: Sequence[str]) -> str:
    """What rows are of: always artifact, target and scenario, and of the rest what differs between the files."""
    if not rows:
        return "no rows"
    return "; ".join(sorted({_named(row, differing) for row in rows}))


def _named(row: Row, differing: Sequence[str]) -> str:
    more = "".join(f", {name} {row.get(name)}" for name in differing)
    state = " (partial)" if row.get("partial") else "" if row["status"] == "ok" else f" ({row['status']})"
    return f"{row['artifact']} {row['target']} {row['scenario']}{more}{state}"
