"""What rows of the bench are called in a picture: as much as tells them apart there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

SINGLE = "single-stream"
Row = dict[str, Any]
DIFFERENCES: dict[str, Callable[[Any], str]] = {
    "target": str,
    "threads": lambda threads: f"{threads} thread{'' if threads == 1 else 's'}",
    "processes": lambda processes: f"{processes or 1} process{'' if processes in (None, 1) else 'es'}",
    "affinity": lambda affinity: "not pinned" if affinity is None else f"pinned to {affinity}",
    "batch": "batches of {}".format,
    "length": lambda length: "texts' own lengths" if length is None else f"{length} tokens",
    "load": lambda load: "asked by the bench" if load is None else f"asked by {load}",
}
"""Fields that stand in a name where rows of a picture differ in them."""
HASH_DIGITS = 8


def who(row: Row) -> str:
    """Name of the artifact in a row."""
    return str(row.get("artifact", "unnamed"))


def tells(row: Mapping[str, Any], name: str) -> bool:
    """Whether a row has a figure that is worth a column of a table."""
    value = row.get(name)
    return value is not None and not (name == "processes" and value == 1)


def scenario_of(row: Row) -> str:
    """Its scenario; single-stream where it does not say."""
    return str(row.get("scenario", SINGLE))


def labels(rows: Sequence[Row]) -> list[str]:
    """A name for each row of one picture; two models of one name are told apart by their hashes."""
    told = [key for key, form in DIFFERENCES.items() if len({form(row.get(key)) for row in rows}) > 1]
    hashes: dict[str, set[str]] = {}
    for row in rows:
        hashes.setdefault(who(row), set()).add(str(row.get("sha256")))
    return [
        ", ".join(
            [
                who(row),
                *([str(row.get("sha256"))[:HASH_DIGITS]] if len(hashes[who(row)]) > 1 else []),
                *(DIFFERENCES[key](row.get(key)) for key in told),
            ]
        )
        for row in rows
    ]
