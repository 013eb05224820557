"""Rows of a bench as a person reads them: tables of latencies and of ratios, Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from compress.bench.naming import tells
from compress.tables import NOTHING, number, print_whole

LATENCY_COLUMNS = {
    "artifact": None,
    "target": None,
    "scenario": None,
    "threads": 0,
    "processes": 0,
    "affinity": None,
    "batch": 0,
    "length": 0,
    "offered_qps": 1,
    "p99_bound_ms": 3,
    "min_ms": 3,
    "p50_ms": 3,
    "p90_ms": 3,
    "p99_ms": 3,
    "p99_ci_low": 3,
    "p99_ci_high": 3,
    "p999_ms": 3,
    "p50_ms_ratio": 3,
    "p50_ms_ratio_low": 3,
    "p50_ms_ratio_high": 3,
    "p99_ms_ratio": 3,
    "p99_ms_ratio_low": 3,
    "p99_ms_ratio_high": 3,
    "qps": 1,
    "qps_ratio": 3,
    "cpu_ms": 3,
    "tokenizer_ms": 3,
    "energy_mj": 3,
    "cost_per_million": 4,
    "startup_ms": 0,
    "peak_mb": 0,
    "mapped_mb": 0,
    "gpu_mb": 0,
    "metric": None,
    "quality": 4,
    "quality_low": 4,
    "quality_high": 4,
    "status": None,
}
"""Fields of bench rows in Markdown, as far as any row has them, and the digits of numbers after the point."""
LATENCY_MORE = {
    "processes": ("processes", 0),
    "length": ("tokens", 0),
    "offered_qps": ("offered/s", 1),
    "cost_per_million": ("per million", 4),
}
"""Heading and digits of figures that have a column where a row has them."""
PLACE = ("artifact", "target", "scenario")
COUNTS = ("threads", "batch")


def latency_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Bench results as a Markdown table, with the fields' own names as headings."""
    columns = [name for name in LATENCY_COLUMNS if any(tells(row, name) for row in rows)]

    def cell(row: Mapping[str, Any], name: str) -> str:
        digits, value = LATENCY_COLUMNS[name], status(row) if name == "status" else row.get(name)
        text = str(NOTHING if value is None else value) if digits is None else number(value, digits)
        return text.replace("|", "\\|")

    lines = [columns, ["---"] * len(columns), *([cell(row, name) for name in columns] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def print_ratios(rows: Sequence[Mapping[str, Any]]) -> None:
    """Compared bench results: the second file's figures, and what multiple of the first's they are."""
    more = [name for name in ("processes", "length", "offered_qps") if any(tells(row, name) for row in rows)]
    table = _table(
        (*COUNTS, *(LATENCY_MORE[name][0] for name in more), *("p50 ms", "×", "p99 ms", "×", "requests/s", "×"))
    )
    for row in rows:
        table.add_row(
            *_place(row),
            *(number(row.get(name), LATENCY_MORE[name][1]) for name in more),
            *(number(row.get("p50_ms"), 3), _ratio(row, "p50_ms_ratio")),
            *(number(row.get("p99_ms"), 3), _ratio(row, "p99_ms_ratio")),
            *(number(row.get("qps"), 0), _ratio(row, "qps_ratio")),
        )
    print_whole(table)


def print_latency(rows: Sequence[Mapping[str, Any]]) -> None:
    """Bench results side by side."""
    figures = (*COUNTS, "p50 ms", "p90 ms", "p99 ms", "requests/s", "peak MB")
    more = [name for name in LATENCY_MORE if any(tells(row, name) for row in rows)]
    metrics = dict.fromkeys(row["metric"] for row in rows if row.get("metric") is not None)
    judged = [" or ".join(metrics)] if metrics else []
    table = _table((*figures, *(LATENCY_MORE[name][0] for name in more), *judged))
    table.add_column("status", overflow="fold")
    for row in rows:
        table.add_row(
            *_place(row),
            *(number(row.get(key), 3) for key in ("p50_ms", "p90_ms", "p99_ms")),
            number(row.get("qps"), 0),
            number(row.get("peak_mb"), 0),
            *(number(row.get(name), LATENCY_MORE[name][1]) for name in more),
            *([_quality(row)] if judged else []),
            escape(status(row)),
        )
    print_whole(table)


def status(row: Mapping[str, Any]) -> str:
    """What became of a row: its status, or that the measurement was interrupted."""
    return "partial" if row.get("partial") else str(row.get("status", "ok"))


def _table(figures: Sequence[str]) -> Table:
    """Columns of what was measured, and of figures."""
    table = Table()
    for column in PLACE:
        table.add_column(column, overflow="fold")
    for column in figures:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _place(row: Mapping[str, Any]) -> list[str]:
    return [escape(str(row.get(key, NOTHING))) for key in (*PLACE, *COUNTS)]


def _quality(row: Mapping[str, Any]) -> str:
    return number(row.get("quality"), 4) + _interval(row, "quality", 4)


def _ratio(row: Mapping[str, Any], name: str) -> str:
    return number(row.get(name), 2) + _interval(row, name, 2)


def _interval(row: Mapping[str, Any], name: str, digits: int) -> str:
    low, high = (row.get(f"{name}_{end}") for end in ("low", "high"))
    return "" if low is None and high is None else f" ({number(low, digits)}–{number(high, digits)})"
