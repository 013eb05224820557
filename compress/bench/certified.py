"""The certificate in the report: what the models lost, in whole and by slice, flagged slices first."""

from __future__ import annotations

from typing import Any

from compress.bench.markup import Cell, cell, folded, not_run, number, section, significant, table, text, words
from compress.bench.summary import Summary, mapping, quality_form, rows_of

FIGURES = (
    ("agreement", "argmax_agreement"),
    ("ECE before", "reference_calibration_error"),
    ("ECE after", "calibration_error"),
    ("NDCG change", "ndcg_change"),
    ("top-k overlap", "top_k_overlap"),
    ("rank correlation", "spearman"),
    ("mean difference", "mean_difference"),
    ("worst difference", "max_difference"),
)
"""Heading and key of what a comparison has beside its metric, as far as the kind of task has it."""
LOOKS = {"flagged": "bad", "ok": "good"}


def certificate(summary: Summary, title: str = "Certificate") -> str:
    """All comparisons in whole, with the slices that are flagged below each; every slice by a click."""
    found = mapping(summary, "certificate")
    pairs = rows_of(found, "comparisons")
    if not pairs:
        return section(title, not_run("the summary has no certificate"))
    shown = [(key, title) for title, key in FIGURES if key in mapping(pairs[0], "whole")]
    short, every = [], []
    for pair in pairs:
        whole = _row(pair, mapping(pair, "whole"), "all rows", shown)
        slices = rows_of(pair, "slices")
        drawn = [_row(pair, part, f"{part.get('by')}: {part.get('value')}", shown) for part in slices]
        short += [whole, *(row for row, part in zip(drawn, slices, strict=True) if part.get("status") == "flagged")]
        every += [whole, *drawn]
    headings = ["model", "compared with", "slice", "rows", "measure", "before", "after", "difference", "low", "high"]
    headings += [*(title for _, title in shown), "outcome"]
    content = table(headings, short, "Certificate") + folded("Every slice", table(headings, every, "Every slice"))
    return section(title, content, _hint(found))


def _hint(found: dict[str, Any]) -> str:
    reason = f" Teacher: {found['reason']}." if found.get("reason") else ""
    return (
        "What a model does on the test rows beside what it was made from. Low and high: "
        f"{number(found.get('confidence')) or 0:.0%} interval of the difference, paired bootstrap of "
        f"{number(found.get('resamples')) or 0:,.0f} resamples. Mean and worst difference are absolute, in "
        f"{found.get('differences_in')}. Flagged: a slice that loses more than "
        f"{number(found.get('slice_factor')) or 0:g} times what all rows lose, beyond noise.{reason}"
    )


def _row(pair: dict[str, Any], part: dict[str, Any], name: str, shown: list[tuple[str, str]]) -> list[Cell]:
    metric = mapping(part, "metric")
    form = quality_form(str(metric.get("name")))
    status = str(part.get("status") or "")
    return [
        words(pair.get("model", "unnamed")),
        words(pair.get("reference", "unnamed")),
        words(name),
        cell(part.get("rows"), lambda value: f"{value:,.0f}"),
        words(metric.get("name", "–")),
        *(cell(metric.get(key), form, absent="–") for key in ("reference", "model")),
        *(cell(metric.get(key), _signed, absent="–") for key in ("difference", "low", "high")),
        *(cell(part.get(key), absent="–") for key, _ in shown),
        Cell(
            f'<span class="chip {LOOKS.get(status, "")}">{text(status)}</span>' if status else "", status, numeric=False
        ),
    ]


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else '−'}{significant(abs(value))}"
