"""What the bench itself does to figures, as tables: its overhead, its repeatability, MLPerf's compliance tests."""

from __future__ import annotations

from typing import Any

from benchmarks.tables import table

Row = dict[str, Any]
WAYS = {"loop": "kdc's loop", "loadgen": "MLPerf LoadGen"}


def draw_bench(harness: list[Row], repeatability: list[Row], compliance: list[Row]) -> str:
    """The section of the page, of the newest rows; empty without any."""
    if not (harness or repeatability or compliance):
        return ""
    lines = ["", "## The bench itself", ""]
    if harness:
        lines += _harness(harness[-1])
    if repeatability:
        lines += _repeatability(repeatability[-1])
    if compliance:
        lines += _compliance(compliance)
    return "\n".join(lines) + "\n"


def _harness(row: Row) -> list[str]:
    measured = {name: row[way] for way, name in WAYS.items() if isinstance(row[way], dict)}
    shown = [
        [name, f"{ns['p50_us']:.2f}", f"{ns['p99_us']:.2f}", f"{ns['below_2_percent_from_ms']:.3f}"]
        for name, ns in measured.items()
    ]
    return [
        "What the bench adds to a latency, of a model that does nothing (at most 5 µs at p50):",
        "",
        *table(["asked by", "p50 µs", "p99 µs", "below 2% from ms"], shown),
        "",
        f"`python -m benchmarks.harness`, {row['queries']:,} queries, medians of {row['repeats']}; {_machine(row)}.",
        "",
    ]


def _repeatability(row: Row) -> list[str]:
    """Early rows were measured apart alone."""
    ways = {"apart, one `kdc bench` after the other": row, "side by side in one `kdc bench`": row.get("side_by_side")}
    shown = [
        [way, ", ".join(f"{ratio:.3f}" for ratio in found["ratios"]), "yes" if found["within_limit"] else "no"]
        for way, found in ways.items()
        if found
    ]
    return [
        "One model measured twice:",
        "",
        *table(["measured", "larger ÷ smaller p50 of each pair", "all below 1.03"], shown),
        "",
        f"`{row['command']}`; {_machine(row)}.",
        "",
    ]


def _compliance(rows: list[Row]) -> list[str]:
    newest = {(row["run"], row["artifact"], row["test"], row["scenario"]): row for row in rows}
    headings = ["model", "test", "scenario", "other answers", "faster with the test", "allowed", "passed"]
    commands = dict.fromkeys(
        f"`{row['command']}`, LoadGen {row['loadgen']}; {_machine(row)}." for row in newest.values()
    )
    return [
        "MLPerf's compliance tests. TEST01: logged answers of a performance run are those of accuracy mode, at the",
        "same speed. TEST04: one request asked again and again is not answered faster (at most by what is allowed).",
        "*Other answers*: of those logged. `benchmarks/compliance.py` says what is not asked. The bench opens models",
        "without the cache of tokens that `compress.load` has.",
        "",
        *table(headings, [_tested(row) for row in newest.values()]),
        "",
        *(f"- {command}" for command in commands),
    ]


def _tested(row: Row) -> list[str]:
    model = f"{row['run']}/{row['artifact']}"
    if row["passed"] is None:
        return [model, row["test"], row["scenario"], "–", "–", "–", f"not run: {row['not_run']}"]
    others = f"{row['otherwise']} of {row['logged']}" if row["test"] == "TEST01" else "–"
    sign = "±" if row["test"] == "TEST01" else "+"
    passed = "yes" if row["passed"] else "no"
    times = f"{row['speed_up'] - 1:+.1%}"
    return [model, row["test"], row["scenario"], others, times, f"{sign}{row['tolerance']:.0%}", passed]


def _machine(row: Row) -> str:
    machine = row["machine"]
    busy = "; **other work kept the machine busy**" if machine.get("warnings") else ""
    changed = " with uncommitted changes" if row["changed"] else ""
    return (
        f"{machine['processor']}, {machine['cores']} cores, {row['date'][:10]}, commit {row['commit']}{changed}{busy}"
    )
