"""What a table of deploy paths says of kdc: how it compares in each cell, and which targets it misses."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from compress.errors import GateError
from compress.tasks.measures import measure_named

SLOWER = 1.03
"""Most that kdc may take, as a multiple of the fastest peer's time in a cell."""
AGREEMENT = 0.99
LOSS = 0.005
SIZE = 0.25
"""Most bytes, as a share of kdc's float ONNX file."""

Row = dict[str, Any]
"""One artifact, as `benchmarks.deploy` appends it."""


def measured(rows: Iterable[Row], *roles: str) -> list[Row]:
    """The rows of these roles that were run; of every role when none is named."""
    return [row for row in rows if row["not_run"] is None and (not roles or row["role"] in roles)]


def fastest(rows: Iterable[Row], cell: str) -> Row | None:
    """The row with the least median time in a cell; None of no rows."""
    return min(rows, key=lambda row: float(row["cells"][cell]["p50_ms"]), default=None)


def ratio(ours: Row, theirs: Row, cell: str) -> float:
    """Median over the rounds of our time ÷ theirs: what slows a whole round down slows both."""
    pairs = zip(ours["cells"][cell]["rounds_ms"], theirs["cells"][cell]["rounds_ms"], strict=True)
    return statistics.median(float(our / their) for our, their in pairs)


def ratios(ours: Row, rows: Iterable[Row]) -> dict[str, tuple[float, str]]:
    """Cell -> our time ÷ that of the fastest peer, and its name; empty without a peer that ran."""
    peers = measured(rows, "peer")
    found = {}
    for cell in ours["cells"]:
        best = fastest(peers, cell)
        if best is not None:
            found[cell] = (ratio(ours, best, cell), best["artifact"])
    return found


def misses(ours: Row, rows: Iterable[Row]) -> list[str]:
    """A sentence for each target that an artifact of kdc misses."""
    found = [
        f"{cell} takes {times:.2f} times as long as {peer} (at most {SLOWER})"
        for cell, (times, peer) in ratios(ours, rows).items()
        if times > SLOWER
    ]
    if ours["agreement"] < AGREEMENT:
        found.append(f"agreement with float is {ours['agreement']:.2%} (at least {AGREEMENT:.0%})")
    lost = measure_named(ours["metric"]).loss(ours["float_quality"], ours["quality"])
    if lost > LOSS:
        found.append(f"{ours['metric']} lost is {lost:.4f} (at most {LOSS})")
    share = ours["size_mb"] / ours["float_mb"]
    if share > SIZE:
        found.append(f"size is {share:.3f} of float (at most {SIZE})")
    return found


def check(rows: list[Row]) -> None:
    """Hold the targets for kdc's best artifact: that which misses the fewest, of those the nearest to the peers.

    Raises:
        GateError: it misses one, no artifact of kdc ran, or no peer did.
    """
    ours = measured(rows, "kdc")
    if not ours or not measured(rows, "peer"):
        reasons = "; ".join(f"{row['artifact']}: {row['not_run']}" for row in rows if row["not_run"])
        raise GateError(f"no {'peer' if ours else 'artifact of kdc'} could be run, so nothing is compared ({reasons})")
    best = min(ours, key=lambda row: (len(misses(row, rows)), _worst(row, rows)))
    missed = misses(best, rows)
    if missed:
        raise GateError(f"{best['artifact']}: {'; '.join(missed)}")


def _worst(ours: Row, rows: list[Row]) -> float:
    return max((times for times, _ in ratios(ours, rows).values()), default=0.0)
