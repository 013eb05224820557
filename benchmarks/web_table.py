"""What `benchmarks.web` found, as a table."""

from __future__ import annotations

from typing import Any

from benchmarks.common import RESULTS
from benchmarks.tables import table

WEB_ROWS = RESULTS / "web.jsonl"
LIMIT_SECONDS = 3.0
"""The longest that the first answer may take."""

Row = dict[str, Any]
"""One site, as `benchmarks.web` appends it."""


def draw_web(rows: list[Row]) -> str:
    """The section of the page; empty without rows. The newest row of each site counts."""
    if not rows:
        return ""
    newest: dict[str, Row] = {row["site"]: row for row in rows}
    lines = [
        "",
        "## In the browser",
        "",
        "Sites that `kdc package BUNDLE --target web` wrote, in headless Chromium with an empty cache, served with",
        "brotli from the same machine; medians. The limits are 8 MB, runtime included, and 3 s from navigation to the",
        "first answer. `python -m benchmarks.web SITE…` appends to `benchmarks/results/web.jsonl`.",
        "",
        *table(
            [
                "site",
                "candidates",
                "model MB",
                "transferred MB",
                "first answer s (highest)",
                "a further question ms",
                "measured",
            ],
            [_cells(row) for row in newest.values()],
        ),
    ]
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> list[str]:
    machine = row["machine"]
    return [
        row["site"],
        "–" if row["candidates"] is None else str(row["candidates"]),
        f"{row['model_bytes'] / 1e6:.1f}",
        f"{row['transferred_bytes'] / 1e6:.2f}",
        f"{row['first_answer_s']:.2f} ({row['first_answer_max_s']:.2f})",
        f"{row['question_ms']:.1f}",
        f"{machine.get('processor')}, {machine.get('cores')} cores, {row['browser']}, {row['date'][:10]}, "
        f"commit {row['commit']}, {row['rounds']} rounds",
    ]
