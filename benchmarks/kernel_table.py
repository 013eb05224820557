"""What `benchmarks.kernels` found, as a table."""

from __future__ import annotations

from typing import Any

from benchmarks.common import RESULTS
from benchmarks.tables import table

KERNEL_ROWS = RESULTS / "kernels.jsonl"

Row = dict[str, Any]
"""One contestant at one size, as `benchmarks.kernels` appends it."""


def kernel_table(rows: list[Row]) -> list[str]:
    """Lines of the table: one row for each case and contestant, and how many times as long as kdc it took."""
    ours = {_case(row): row for row in rows if row["contestant"] == "kdc"}
    return table(
        ["kernel", "sizes", "dtype", "", "ms, p50 (p20 to p80)", "÷ kdc", "MB beyond inputs and gradients", "GB/s"],
        [_cells(row, ours[_case(row)]) for row in rows],
    )


def draw_kernels(rows: list[Row]) -> str:
    """The section of the page; empty without rows. The newest row of each case, contestant and device counts."""
    if not rows:
        return ""
    newest: dict[tuple[str, ...], Row] = {(row["device"], *_case(row), row["contestant"]): row for row in rows}
    lines = [
        "",
        "## Kernels",
        "",
        "Loss and gradients together; contestants take turns in one process; medians. `python -m benchmarks.kernels`",
        "appends to `benchmarks/results/kernels.jsonl`. What each must move and what bounds it: `kernels/README.md`.",
    ]
    for device in dict.fromkeys(row["device"] for row in newest.values()):
        found = [row for row in newest.values() if row["device"] == device]
        made = found[-1]
        cores = f"{made['machine'].get('processor')}, {made['machine'].get('cores')} cores"
        where = cores if device == "cpu" else device
        commits = ", ".join(dict.fromkeys(row["commit"] for row in found))
        lines += ["", f"{where}, {made['date'][:10]}, commit {commits}:", "", *kernel_table(found)]
    if all(row["device"] == "cpu" for row in newest.values()):
        lines += ["", "GPU: not run: none was at hand. `python -m benchmarks.kernels --device cuda` does it all."]
    return "\n".join(lines) + "\n"


def _case(row: Row) -> tuple[str, str]:
    return row["kernel"], ", ".join(f"{name} {_size(size)}" for name, size in row["sizes"].items())


def _size(size: int | str) -> str:
    return size if isinstance(size, str) else f"{size:,}"


def _cells(row: Row, ours: Row) -> list[str]:
    head = [*_case(row), row["dtype"], row["contestant"]]
    if "not_run" in row:
        return [*head, f"not run: {row['not_run']}", "–", "–", "–"]
    rate = row["gb_a_second"]
    return [
        *head,
        f"{row['p50_ms']:,.1f} ({row['p20_ms']:,.1f} to {row['p80_ms']:,.1f})",
        "–" if "not_run" in ours else f"{row['p50_ms'] / ours['p50_ms']:.2f}",
        f"{row['extra_mb']:,.1f}",
        "–" if rate is None else f"{rate:.1f}",
    ]
