"""The automatic choice in the report: every candidate for the shipped model, what it costs and what became of it."""

from __future__ import annotations

from typing import Any

from compress.bench.markup import Cell, cell, chip, megabytes, milliseconds, quality, ratio, section, table, words
from compress.bench.summary import Summary, rows_of

LOOKS = {"shipped": "good", "below the floor": "bad", "error": "bad"}


def candidates(summary: Summary) -> str:
    """One row a candidate, as `compress.quantize.choice` tells it; nothing where no choice was asked for."""
    rows = rows_of(summary, "candidates")
    if not rows:
        return ""
    headings = ["method", "outcome", "p50", "requests/s", "faster than float", "size", "loss", "agreement", "why"]
    return section("What was tried", table(headings, [_row(row) for row in rows], "Candidates"), HINT)


HINT = (
    "Each method that this machine can run, built and timed beside its float parent, taking turns. Shipped is the "
    "fastest of those whose loss on validation is accepted and that are faster than float; none is the float model."
)


def _row(row: dict[str, Any]) -> list[Cell]:
    outcome = str(row.get("outcome") or "")
    return [
        words(row.get("method", "unnamed")),
        chip(outcome, LOOKS.get(outcome, "")),
        cell(row.get("p50_ms"), milliseconds, absent="–"),
        cell(row.get("qps"), lambda value: f"{value:,.0f}", absent="–"),
        cell(row.get("speedup"), ratio, absent="–"),
        cell(row.get("size_bytes"), megabytes, absent="–"),
        cell(row.get("quality_loss"), quality, absent="–"),
        cell(row.get("argmax_agreement"), lambda value: f"{value:.1%}", absent="–"),
        words(row.get("reason") or ""),
    ]
