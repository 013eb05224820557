"""The report of a run: one HTML file that opens offline, drawn from the summary JSON alone.

Whatever the summary lacks is answered with "not run: …" in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from compress.artifacts import publishing
from compress.bench import figures
from compress.bench.certified import certificate
from compress.bench.every import every_timing
from compress.bench.markup import (
    Cell,
    cell,
    chip,
    colour,
    count,
    difference,
    duration,
    folded,
    megabytes,
    milliseconds,
    nested,
    not_run,
    number,
    points,
    ratio,
    section,
    table,
    text,
    words,
)
from compress.bench.page import notices, page, pair, tile
from compress.bench.summary import (
    Summary,
    mapping,
    measure_of,
    metric_of,
    model_names,
    quality_form,
    retention_measure,
    rows_of,
    size_ratio,
    timing_of,
)
from compress.bench.tried import candidates
from compress.bench.verdict import gate_value, headline, warnings


def write_report(summary: Summary, path: Path) -> None:
    """Write the report of a summary (what `kdc run --json` prints) to `path`, whole or not at all."""
    page = render(summary)
    with publishing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render(summary: Summary) -> str:
    """The report as one HTML page without references to anything outside it."""
    parts: list[Callable[[Summary], str]] = [
        _header,
        _warnings,
        _models,
        lambda s: pair(figures.pareto(s), figures.sizes(s)),
        lambda s: pair(figures.latency(_timed(s)), figures.throughput(_timed(s))),
        figures.curves,
        candidates,
        certificate,
        lambda s: pair(_gates(s), _stages(s)),
        _bench,
        _background,
    ]
    body = "\n".join(part(summary) for part in parts)
    title = f"{summary.get('name') or 'a run'} · kdc report"
    return page(title, body, "summary", summary)


def _header(summary: Summary) -> str:
    about = " · ".join(f"{key} {text(summary[key])}" for key in ("task", "metric", "run", "bundle") if summary.get(key))
    return (
        f"<h1>{text(summary.get('name') or 'A run without a name')}</h1>"
        f'<p class="about">{about}</p><p class="headline">{text(headline(summary))}</p>{_tiles(summary)}'
    )


def _tiles(summary: Summary) -> str:
    measure, retained = measure_of(summary), retention_measure(summary)
    kept = (
        f"of the teacher's {retained.name} kept"
        if retained.higher_is_better
        else f"teacher's {retained.name} ÷ shipped"
    )
    tiles = (
        tile(number(summary.get("retention")), "{:.1%}".format, kept)
        + tile(number(summary.get("speedup")), ratio, "speed-up over the teacher (p50)")
        + tile(size_ratio(summary), ratio, "size of the teacher ÷ shipped")
        + tile(
            number(summary.get("distillation_gain")),
            points if measure.in_points else difference,
            "gained by distillation" if measure.higher_is_better else f"{measure.name} saved by distillation",
        )
    )
    return f'<div class="tiles">{tiles}</div>'


def _warnings(summary: Summary) -> str:
    return notices(sorted(warnings(summary), key=lambda item: not item[0]))


def _models(summary: Summary) -> str:
    names = model_names(summary)
    if not names:
        return section("Models", not_run("the summary has no models"))
    models = mapping(summary, "models")
    metrics = [metric_of(summary)]
    for name in names:
        metrics += [m for m in mapping(models[name], "quality") if m not in metrics]
    headings = ["model", metrics[0], "p50", "p99", "speed-up", "size", "parameters", "what it is", *metrics[1:]]
    rows = [_model_row(summary, name, metrics) for name in names]
    hint = (
        f"Quality on the test split, {metric_of(summary)} first. "
        "Latency end to end from text, one request after the other. Click a heading to sort."
    )
    reasons = _absences(summary, names)
    return section("Models", table(headings, rows, "Models") + reasons, hint)


def _model_row(summary: Summary, name: str, metrics: Sequence[str]) -> list[Cell]:
    model = mapping(mapping(summary, "models"), name)
    timing = timing_of(summary, name)
    measured = [cell(mapping(model, "quality").get(metric), quality_form(metric)) for metric in metrics]
    teacher, own = (number(row.get("p50_ms")) for row in (timing_of(summary, "teacher"), timing))
    return [
        Cell(f'<span class="swatch {colour(name)}"></span>{text(name)}', name, numeric=False),
        measured[0],
        cell(own, milliseconds),
        cell(timing.get("p99_ms"), milliseconds),
        cell(teacher / own if teacher and own else None, ratio),
        cell(model.get("size_bytes", timing.get("size_bytes")), megabytes, absent="–"),
        cell(model.get("parameters"), count, absent="–"),
        _what(name, model),
        *measured[1:],
    ]


def _what(name: str, model: dict[str, Any]) -> Cell:
    usual = {"control": "the same student on hard labels alone", "shipped": "the model in the bundle"}
    said = model.get("description") or usual.get(name, "")
    return Cell(f'<span class="wrapped">{text(said)}</span>', str(said), numeric=False)


def _absences(summary: Summary, names: Sequence[str]) -> str:
    """Why a latency is missing, model by model."""
    said = []
    for name in names:
        timing = timing_of(summary, name)
        if number(timing.get("p50_ms")) is None:
            status = str(timing.get("status") or "not run: it was not timed")
            said.append(f"{name}: {status if status.startswith('not run') else f'not run: {status}'}")
    return f'<p class="hint">Latency of {text("; ".join(said))}.</p>' if said else ""


def _timed(summary: Summary) -> list[dict[str, Any]]:
    return rows_of(summary, "latency")


def _gates(summary: Summary) -> str:
    rows = [
        [
            words(gate.get("gate", "unnamed")),
            cell(gate.get("limit"), partial(gate_value, gate)),
            cell(gate.get("value"), partial(gate_value, gate)),
            chip("met", "good") if gate.get("passed") else chip("not met", "bad"),
        ]
        for gate in rows_of(summary, "gates")
    ]
    content = (
        table(["gate", "limit", "value", "outcome"], rows, "Gates") if rows else not_run("the recipe sets no gates")
    )
    return section("Gates", content)


def _stages(summary: Summary) -> str:
    looks = {"done": "good", "failed": "bad"}
    rows = [
        [
            words(stage.get("stage", "unnamed")),
            chip(str(stage.get("status", "unknown")), looks.get(str(stage.get("status")), "")),
            cell(stage.get("seconds"), duration),
            Cell(f'<span class="wrapped">{text(stage["reason"])}</span>', str(stage["reason"]), numeric=False)
            if stage.get("reason")
            else Cell("", None, numeric=False),
        ]
        for stage in rows_of(summary, "stages")
    ]
    if not rows:
        return section("Stages", not_run("the summary has no stages"))
    total = sum(number(stage.get("seconds")) or 0 for stage in rows_of(summary, "stages"))
    return section(
        "Stages", table(["stage", "status", "time", "reason"], rows, "Stages"), f"{duration(total)} together."
    )


def _bench(summary: Summary) -> str:
    rows = _timed(summary)
    return folded("Every timing", every_timing(rows) if rows else not_run("nothing was timed"))


def _background(summary: Summary) -> str:
    parts = {
        "Parity": "parity",
        "Guard of quantization": "guard",
        "Engines": "engines",
        "Machine": "device",
        "Versions": "versions",
        "Recipe": "recipe",
    }
    return "".join(
        folded(title, nested(summary[key]) if summary.get(key) else not_run(f"the summary has no {key}"))
        for title, key in parts.items()
    )
