"""Rows of the bench in the groups that may stand in one picture: those of one device, one for each measurement."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compress.bench.compare import measurement
from compress.bench.markup import number
from compress.bench.naming import Row
from compress.bench.summary import mapping

MOMENTARY = ("load_average", "busy_cores", "warnings", "versions", "energy")
"""What a device's description says of the moment, or of what is installed; in all else two devices differ."""


@dataclass(frozen=True)
class Device:
    """A machine, and the rows that were measured on it."""

    name: str
    rows: list[Row]

    @property
    def settled(self) -> list[Row]:
        """Rows that pictures are drawn of: complete ones with figures, each measurement once.

        Of several rows of one measurement it is the one with the median p50.
        """
        found: dict[tuple[str, ...], list[Row]] = {}
        for row in self.rows:
            if complete(row):
                found.setdefault((*map(str, measurement(row)), str(row.get("sha256"))), []).append(row)
        return [sorted(rows, key=lambda row: float(row["p50_ms"]))[(len(rows) - 1) // 2] for rows in found.values()]


def complete(row: Row) -> bool:
    """Whether it has figures, of a measurement that was not interrupted."""
    measured = str(row.get("status")).startswith(("ok", "no rate")) and not row.get("partial")
    return measured and (number(row.get("p50_ms")) or 0) > 0


def by_device(rows: Sequence[Row]) -> list[Device]:
    """The rows of each device, in the order in which devices come first; equal names are numbered."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        lasting = {key: value for key, value in mapping(row, "device").items() if key not in MOMENTARY}
        found.setdefault(json.dumps(lasting, sort_keys=True, default=str), []).append(row)
    names = [_name(mapping(group[0], "device")) for group in found.values()]
    numbered = [
        f"{name} ({names[: place + 1].count(name)})" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]
    return [Device(name, group) for name, group in zip(numbered, found.values(), strict=True)]


def _name(device: dict[str, Any]) -> str:
    cores, limit = number(device.get("cores")), number(device.get("cpu_limit"))
    parts = [
        str(device.get("processor") or "a processor that the rows do not name"),
        *([f"{cores:g} core{'' if cores == 1 else 's'}"] if cores is not None else []),
        *([f"limited to {limit:g}"] if limit is not None else []),
    ]
    return ", ".join(parts)
