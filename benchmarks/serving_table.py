"""What `benchmarks.serving`, `benchmarks.serving_p99` and `benchmarks.soak` found, as tables."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.common import RESULTS
from benchmarks.serving_p99 import BENCHMARK
from benchmarks.tables import table

SERVING_ROWS = RESULTS / "serving.jsonl"
SOAK_ROWS = RESULTS / "soak.jsonl"
REFUSED = ("malformed", "oversized", "stopped", "silent")
"""Kinds of requests that must be refused; statuses begin with them."""

Row = dict[str, Any]


def draw_serving(serving: list[Row], soaks: list[Row]) -> str:
    """The section of the page; empty without rows. The newest row of each bundle counts, of soaks for each length."""
    latest = {
        (row["bundle"], row["cached_texts"], row.get("workers", 1)): row
        for row in serving
        if row["benchmark"] == BENCHMARK
    }
    lines: list[str] = []
    if engines := _sessions(serving):
        lines += [
            "",
            "The same model behind each engine, one worker, one thread: the most answers a second (16 connections),",
            "the processor time of all the server's processes for one, and latency of Poisson arrivals at 70% of it.",
            "Medians of the rounds, in which the engines take turns. `python -m benchmarks.serving`.",
            "",
            *table(ENGINE_HEADINGS, [_engine(rows) for rows in engines]),
        ]
    if latest:
        lines += [
            "",
            "Latency over HTTP and in process at 70% of the highest rate whose p99 is within the bound in process: one",
            "thread there and in each worker, the same requests at the same times, in turns. Milliseconds over all",
            "rounds; *÷*: median of the rounds' ratios of p99, at most 2. `python -m benchmarks.serving_p99`.",
            "",
            *table(P99_HEADINGS, [_p99(row) for row in latest.values()]),
        ]
    if soaked := {(row["bundle"], row["minutes"]): row for row in soaks}:
        lines += [
            "",
            "Mixed load with new and damaged bundles, killed workers, slow clients, malformed and oversized requests.",
            "*Memory*: median of all processes together in the second and last quarter; early rows: in both halves.",
            "`python -m benchmarks.soak`.",
            "",
            *table(SOAK_HEADINGS, [_soak(row) for row in soaked.values()]),
        ]
    return "\n".join(["", "## Serving", *lines]) + "\n" if lines else ""


ENGINE_HEADINGS = (
    "bundle",
    "engine",
    "answers/s",
    "ms of a core",
    "p50 ms",
    "p99 ms",
    "rounds",
    "date, commit",
)


def _sessions(serving: list[Row]) -> list[list[Row]]:
    """Of each bundle and engine the rounds of its last session; the fastest engine of a bundle first."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in serving:
        if row["benchmark"] != "serving" or ("not_run" not in row and "share" not in row["open_loop"]):
            continue  # early rows had one rate for all, which the slower ones could not hold
        key = row["bundle"], row["engine"]
        found[key] = [row] if row["round"] == 0 else [*found.get(key, []), row]
    return sorted(found.values(), key=lambda rows: (rows[0]["bundle"], -(_median(rows, "most", "per_second") or 0)))


def _median(rows: list[Row], load: str, name: str) -> float | None:
    found = [row[load][name] for row in rows if name in row.get(load, {})]
    return statistics.median(found) if found else None


def _engine(rows: list[Row]) -> list[str]:
    asked = (("most", "per_second", ",.0f"), ("most", "cpu_ms", ".2f"))
    timed = (("open_loop", "p50_ms", ".2f"), ("open_loop", "p99_ms", ".2f"))
    medians = [(_median(rows, load, name), form) for load, name, form in (*asked, *timed)]
    failed = next((f"{row['not_run']}" for row in rows if "not_run" in row), None)
    told = ["–" if value is None else format(value, form) for value, form in medians]
    rounds = str(len(rows)) if failed is None else f"{len(rows)}; not run: {failed}"
    return [rows[0]["bundle"], rows[0]["engine"], *told, rounds, _made(rows[-1])]


P99_HEADINGS = (
    "bundle",
    "bound ms",
    "highest/s",
    "asked/s",
    "texts kept",
    "workers",
    "p50 in process",
    "over HTTP",
    "p99 in process",
    "over HTTP",
    "÷",
    "requests",
    "server's ms of a core",
    "date, commit",
)


def _p99(row: Row) -> list[str]:
    times = [f"{row[way][name]:.2f}" for name in ("p50_ms", "p99_ms") for way in ("in_process", "http")]
    return [
        row["bundle"],
        f"{row['p99_bound_ms']:g}",
        f"{row['highest_qps']:,.0f}",
        f"{row['qps']:,.0f}",
        f"{row['cached_texts']:,}",
        f"{row.get('workers', 1)}",
        *times,
        f"{row['p99_ratio']:.2f}",
        f"{row['queries']:,}",
        f"{row['server_cpu_ms']:.2f}",
        _made(row),
    ]


SOAK_HEADINGS = (
    "bundle",
    "minutes",
    "requests",
    "refused as they must be",
    "wrong",
    "lost",
    "sent again",
    "workers killed",
    "bundles taken, refused",
    "memory MB",
    "flat",
    "date, commit",
)


def _soak(row: Row) -> list[str]:
    refused = sum(count for status, count in row["statuses"].items() if status.startswith(REFUSED))
    outcomes = [float(row["metrics"].get(f'kdc_reloads_total{{outcome="{name}"}}', 0)) for name in ("done", "refused")]
    memory = row.get("memory_mb", {})
    early, late = row.get("median_mb_by_half", [None, None])
    if "all" in memory:
        early, late = memory["all"]["second_quarter"], memory["all"]["last_quarter"]
    return [
        row["bundle"],
        f"{row['minutes']:g}",
        f"{row['requests']:,}",
        f"{refused:,}",
        *(f"{row[name]:,}" for name in ("wrong", "lost", "sent_again", "killed")),
        ", ".join(f"{count:,.0f}" for count in outcomes),
        f"{early:.0f}, {late:.0f}",
        {True: "yes", False: "no"}.get(memory.get("flat"), "too short to say"),
        _made(row),
    ]


def _made(row: Row) -> str:
    return f"{row['date'][:10]}, {row['commit']}{' with uncommitted changes' if row['changed'] else ''}"
