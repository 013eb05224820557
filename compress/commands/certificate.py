"""A bundle's certificate as a person reads it: a table for each model and what it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from compress.tables import NOTHING, console, print_whole

FIGURES = (
    ("agree", "argmax_agreement"),
    ("NDCG change", "ndcg_change"),
    ("top-k", "top_k_overlap"),
    ("rank corr.", "spearman"),
    ("mean", "mean_difference"),
    ("worst", "max_difference"),
)
"""Heading and key of what stands beside the metric, as far as a kind of task has it."""
ECE = "reference_calibration_error", "calibration_error"
WIDEST = 34
"""Characters of a slice's name that are shown."""


def print_certificate(found: Mapping[str, Any]) -> None:
    """What the figures mean, then each comparison in whole and by slice."""
    screen = console()
    for line in certificate_lines(found):
        screen.print(line, markup=False, soft_wrap=True)
    for each in found["comparisons"]:
        print_whole(comparison_table(each))


def certificate_lines(found: Mapping[str, Any]) -> list[str]:
    """How the figures were found."""
    lines = [
        f"certificate: {found['rows']:,} test rows; interval: {found['confidence']:.0%} of the difference after − "
        f"before (paired bootstrap, {found['resamples']:,} resamples, seed {found['seed']}); mean and worst absolute "
        f"difference in {found['differences_in']}",
        f"flagged: loses more than {found['slice_factor']:g} times what all rows lose, beyond noise; "
        f"too small: fewer than {found['least_rows']} rows (for ranking, groups with a relevant row)",
    ]
    return [*lines, *([f"teacher: {found['reason']}"] if found.get("reason") else [])]


def comparison_table(each: Mapping[str, Any]) -> Table:
    """One model beside what it is compared with."""
    whole = each["whole"]
    role = "its parent" if each["role"] == "parent" else "its teacher"
    table = Table(title=f"{each['model']} after {each['reference']}, {role}", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("slice", no_wrap=True, max_width=WIDEST)
    headings = ["rows", "measure", "before", "after", "interval"]
    headings += ["ECE"] if ECE[0] in whole else []
    for heading in [*headings, *(title for title, key in FIGURES if key in whole)]:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_row("all", *_cells(whole, whole), "")
    for part in each["slices"]:
        outcome = "FLAGGED" if part["status"] == "flagged" else part["status"]
        table.add_row(escape(f"{part['by']}: {part['value']}"), *_cells(part, whole), outcome)
    return table


def _cells(part: Mapping[str, Any], whole: Mapping[str, Any]) -> list[str]:
    """Cells of the columns that the whole has; a slice that is too small has its number of rows alone."""
    metric = part.get("metric")
    measured = [NOTHING] * 4
    if metric is not None:
        between = f"{metric['low']:+.3g} … {metric['high']:+.3g}"
        measured = [metric["name"], _number(metric["reference"]), _number(metric["model"]), between]
    known = " → ".join(_number(part[key]) for key in ECE) if ECE[0] in part else NOTHING
    ece = [known] if ECE[0] in whole else []
    return [f"{part['rows']:,}", *measured, *ece, *(_number(part.get(key)) for _, key in FIGURES if key in whole)]


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}"
