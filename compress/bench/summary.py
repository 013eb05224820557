"""Reading the summary of a run, whatever may be missing from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from compress.bench.markup import KNOWN, number, quality, significant
from compress.tasks.measures import Measure, measure_named

Summary = dict[str, Any]
"""The object that `kdc run --json` prints."""


def mapping(summary: Summary, key: str) -> dict[str, Any]:
    """The mapping under a key; empty where there is none."""
    value = summary.get(key)
    return value if isinstance(value, dict) else {}


def rows_of(summary: Summary, key: str) -> list[dict[str, Any]]:
    """The list of mappings under a key; empty where there is none."""
    value = summary.get(key)
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list | tuple) else []


def model_names(summary: Summary) -> list[str]:
    """Models with an entry, the known ones first."""
    models = mapping(summary, "models")
    names = [name for name in KNOWN if isinstance(models.get(name), dict) and models[name]]
    return names + [name for name in models if name not in KNOWN and isinstance(models[name], dict)]


def metric_of(summary: Summary) -> str:
    """The metric that is reported first."""
    return str(summary.get("metric") or "quality")


def measure_of(summary: Summary) -> Measure:
    """What is known of that metric; of an unknown one, that higher is better."""
    return measure_named(metric_of(summary))


def retention_measure(summary: Summary) -> Measure:
    """What retention is told in: the quality gate's metric, where the recipe has one."""
    return measure_named(str(summary.get("retention_metric") or metric_of(summary)))


def quality_form(metric: str) -> Callable[[float], str]:
    """How a value of a metric is written: errors, which have a unit, with their significant digits."""
    return quality if measure_named(metric).in_points else significant


def quality_of(summary: Summary, name: str) -> float | None:
    """A model's value of that metric."""
    model = mapping(mapping(summary, "models"), name)
    return number(mapping(model, "quality").get(metric_of(summary)))


def timing_of(summary: Summary, name: str) -> dict[str, Any]:
    """The first single-stream row of a model; the first thread count comes first."""
    found = (
        row
        for row in rows_of(summary, "latency")
        if row.get("artifact") == name and row.get("scenario", "single-stream") == "single-stream"
    )
    return next(found, {})


def size_ratio(summary: Summary) -> float | None:
    """The teacher's size over the shipped model's."""
    models = mapping(summary, "models")
    teacher, shipped = (number(mapping(models, name).get("size_bytes")) for name in ("teacher", "shipped"))
    return teacher / shipped if teacher and shipped else None
