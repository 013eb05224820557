"""The table of all timings: a row for each row of the bench, a column for each figure that one of them has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from compress.bench.markup import Cell, cell, chip, missing, number, significant, table, text, words
from compress.bench.naming import Row, scenario_of, tells, who
from compress.bench.summary import quality_form

ALWAYS = ("p50_ms", "p90_ms", "p99_ms", "qps")
FIGURES = {
    "min_ms": "min ms",
    "p50_ms": "p50 ms",
    "p90_ms": "p90 ms",
    "p99_ms": "p99 ms",
    "p999_ms": "p99.9 ms",
    "p99_early_stopping_ms": "p99 early stopping ms",
    "p50_low": "p50 low",
    "p50_high": "p50 high",
    "qps": "requests/s",
    "cpu_ms": "CPU ms",
    "tokenizer_ms": "tokenizer ms",
    "startup_ms": "start-up ms",
    "peak_mb": "peak MB",
    "mapped_mb": "mapped MB",
    "energy_mj": "energy mJ",
    "cost_per_million": "cost per million",
}
"""Fields and headings of figures, in their order."""
COUNTS = {
    "threads": "threads",
    "processes": "processes",
    "batch": "batch",
    "length": "tokens",
    "offered_qps": "offered/s",
    "p99_bound_ms": "p99 bound ms",
    "requests": "requests",
}
"""Fields that say how it was measured."""
HINT = (
    "A call is one request, or one batch in offline; p50 low and high are the least and the largest of "
    "the rounds' medians; CPU is processor time of a request. Click a heading to sort."
)


def every_timing(rows: Sequence[Row], more: Sequence[tuple[str, Callable[[Row], Cell]]] = ()) -> str:
    """The table, and which figures no row has. more: headings and cells of what else tells rows apart."""
    counts = [key for key in COUNTS if any(tells(row, key) for row in rows)]
    shown = [key for key in FIGURES if key in ALWAYS or any(number(row.get(key)) is not None for row in rows)]
    judged = any(number(row.get("quality")) is not None for row in rows)
    dated = any(row.get("date") for row in rows)
    headings = ["artifact", "target", "scenario", *(heading for heading, _ in more), *(COUNTS[key] for key in counts)]
    headings += [*(FIGURES[key] for key in shown), *(["quality", "interval", "metric"] if judged else [])]
    headings += ["status", *(["date"] if dated else [])]
    drawn = [
        [
            words(who(row)),
            words(row.get("target", "")),
            words(scenario_of(row)),
            *(form(row) for _, form in more),
            *(cell(row.get(key), significant_count, absent="–") for key in counts),
            *(_figure(row, key) for key in shown),
            *(_quality(row) if judged else []),
            _status(row),
            *([words(row.get("date", "–"))] if dated else []),
        ]
        for row in rows
    ]
    absent = [FIGURES[key] for key in FIGURES if key not in shown] + ([] if judged else ["quality"])
    told = f"{HINT} Not measured in any row: {', '.join(absent)}." if absent else HINT
    return f'<p class="hint">{text(told)}</p>' + table(headings, drawn, "Every timing")


def significant_count(value: float) -> str:
    """A whole number in full, another with three significant digits."""
    return f"{value:,.0f}" if value == int(value) else significant(value)


def _figure(row: Row, key: str) -> Cell:
    return cell(row.get(key), absent="not run" if str(row.get("status", "")).startswith("not run") else "–")


def _quality(row: Row) -> list[Cell]:
    form = quality_form(str(row.get("metric")))
    ends = [number(row.get(f"quality_{end}")) for end in ("low", "high")]
    told = [form(end) for end in ends if end is not None]
    between = missing("–") if len(told) < len(ends) else Cell(text(" – ".join(told)), ends[0])
    return [cell(row.get("quality"), form, absent="–"), between, words(row.get("metric") or "–")]


def _status(row: Row) -> Cell:
    if row.get("partial"):
        return chip("partial", "bad")
    said: Any = row.get("status", "ok")
    return (
        chip("ok", "good")
        if said == "ok"
        else Cell(f'<span class="wrapped wide">{text(said)}</span>', str(said), False)
    )
