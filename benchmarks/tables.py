"""Markdown tables of measured figures."""

from __future__ import annotations

from collections.abc import Sequence

from compress.tasks.measures import measure_named


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table."""
    return ["| " + " | ".join(cells) + " |" for cells in (headings, ["---"] * len(headings), *rows)]


def spread(values: Sequence[float | None], scale: float = 100.0, *, unit: str = "") -> str:
    """Mean of the known values times the scale, with the lowest and highest where they differ."""
    known = [scale * value for value in values if value is not None]
    if not known:
        return "–"
    around = "" if len(set(known)) == 1 else f" ({min(known):.1f} to {max(known):.1f})"
    return f"{sum(known) / len(known):.1f}{unit}{around}"


def scale_of(metric: str) -> float:
    """Shares are told in points of a hundred, errors in their own unit."""
    return 100.0 if measure_named(metric).in_points else 1.0
