"""One picture a data set: what each family of students keeps of its teacher, and how fast it answers."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import mean
from typing import Any

from compress.bench import charts

REPORT = Path(charts.__file__).with_name("report.html")
SELECTORS = ("svg ",)
COLOURS = {"--ink": "#1d2430", "--quiet": "#5b6675", "--grid": "#e3e7ec", "--card": "#ffffff", "--tint": "#2563a8"}
LEAST = 2
"""A picture with one student shows nothing."""

Row = dict[str, Any]


def pictures(rows: list[Row]) -> dict[str, str]:
    """File name -> SVG, for each data set on which several kinds of students were measured."""
    sets: dict[str, dict[str, list[Row]]] = {}
    for row in _of_newest_settings(rows):
        if row["retention"] is not None and row["p50_ms"].get("shipped"):
            sets.setdefault(data_set(row), {}).setdefault(row["student"], []).append(row)
    return {f"frontier-{name}.svg": _picture(found) for name, found in sorted(sets.items()) if len(found) >= LEAST}


def _of_newest_settings(rows: list[Row]) -> list[Row]:
    """Of each recipe the rows with the settings of the last one: seeds of a changed recipe do not mix with the old."""
    settings = {row["recipe"]: row.get("settings") for row in rows}
    return [row for row in rows if row.get("settings") == settings[row["recipe"]]]


def data_set(row: Row) -> str:
    """A recipe's name without the kind of its student."""
    name: str = row["recipe"]
    return re.sub(rf"-{re.escape(row['student'])}\b", "", name)


def _picture(kinds: dict[str, list[Row]]) -> str:
    points = [charts.Point("teacher", mean(_teacher(rows) for rows in kinds.values()), 100.0)]
    for kind, rows in sorted(kinds.items()):
        p50, kept = (mean(_value(row, name) for row in rows) for name in ("p50", "retention"))
        points.append(charts.Point(kind, p50, 100 * kept))
    return standalone(charts.pareto(points, [], "shipped ÷ teacher, %"))


def standalone(svg: str) -> str:
    """A chart of the report as a file of its own."""
    style = "svg{" + ";".join(f"{name}:{value}" for name, value in COLOURS.items()) + ";background:var(--card)}"
    return (
        svg.replace(">", f' xmlns="http://www.w3.org/2000/svg" width="620"><style>{style}{_rules()}</style>', 1) + "\n"
    )


def _teacher(rows: list[Row]) -> float:
    return mean(float(row["p50_ms"]["teacher"]) for row in rows)


def _value(row: Row, name: str) -> float:
    return float(row["p50_ms"]["shipped"] if name == "p50" else row["retention"])


def _rules() -> str:
    """The report's rules for charts, so that both look alike."""
    lines = REPORT.read_text(encoding="utf-8").splitlines()
    return "".join(line for line in lines if line.startswith(SELECTORS))
