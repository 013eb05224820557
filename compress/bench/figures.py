"""The report's pictures, each a section drawn from the summary; "not run: …" where there is nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compress.bench import charts
from compress.bench.markup import (
    colour,
    colours,
    megabytes,
    milliseconds,
    not_run,
    number,
    section,
    significant,
    text,
)
from compress.bench.naming import SINGLE, Row, labels, scenario_of, who
from compress.bench.summary import Summary, mapping, measure_of, metric_of, model_names, quality_of, rows_of, timing_of
from compress.tasks.measures import Measure

MODELS = ("teacher", "student", "control", "aware")
LOSSES = {
    "loss": "",
    "soft": "7 3",
    "hidden": "2 3",
    "hard": "9 3 2 3",
    "hidden_cosine": "2 6",
    "relations": "6 2 1 2",
    "reverse_kl": "5 2",
    "jensen_shannon": "10 2 2 2",
    "margin_mse": "4 4",
    "listwise": "12 4",
    "ranknet": "1 4",
    "lambda_rank": "12 3 3 3",
}
"""Loss terms with a colour of their own, and how their lines are dashed."""
TEMPERATURE, WEIGHT = "temperature", "weight."
"""Keys of a training's history beside the losses: what T was, and, before a term's name, what its weight was."""
NO_LOSS = {"stage", "epoch", "step", "metric", "learning_rate", "loss", "seconds", TEMPERATURE}
LOG_FROM = 30
"""Largest over least loss from which on the axis counts decades."""

Epochs = list[tuple[float, dict[str, Any]]]


def pareto(summary: Summary) -> str:
    """Quality against p50 latency, with the frontier."""
    metric, higher = metric_of(summary), measure_of(summary).higher_is_better
    points, levels, borrowed = [], [], False
    for name in model_names(summary):
        value, p50 = quality_of(summary, name), number(timing_of(summary, name).get("p50_ms"))
        hollow = p50 is None and name == "control"
        if hollow:
            p50 = number(timing_of(summary, "student").get("p50_ms"))
        if value is None:
            continue
        if p50:
            points.append(charts.Point(name, p50, value, hollow))
            borrowed = borrowed or hollow
        else:
            levels.append((name, value))
    if not points:
        why = "no model has both a quality and a single-stream latency"
        return section("Quality against latency", not_run(why))
    hint = f"{'Up' if higher else 'Down'} and to the left is better; "
    hint += "the dotted line joins the models that none beats in both."
    hint += " Dashed: not timed." if levels else ""
    hint += " * not timed; the same network as the student, drawn at its latency." if borrowed else ""
    return section("Quality against latency", charts.pareto(points, levels, metric, higher_is_better=higher), hint)


def sizes(summary: Summary) -> str:
    """Bars of size on disk and of peak memory."""
    models = mapping(summary, "models")
    sizes = [(name, number(models[name].get("size_bytes"))) for name in model_names(summary)]
    rows = [(colour(name), name, size, megabytes(size)) for name, size in sizes if size is not None]
    peaks = [(name, number(timing_of(summary, name).get("peak_mb"))) for name, _ in sizes]
    memory = [(colour(name), name, peak, f"{significant(peak)} MB") for name, peak in peaks if peak is not None]
    shown = charts.bars(rows, "size") if rows else not_run("no model has a size")
    shown += "<h3>Peak memory of a process that answers</h3>"
    shown += charts.bars(memory, "peak memory") if memory else not_run("no model's memory was measured")
    return section("Size", shown)


def latency(rows: Sequence[Row]) -> str:
    """Bars of p50, p90 and p99 in the single-stream scenario."""
    rows = [row for row in rows if scenario_of(row) == SINGLE]
    if not any(number(row.get("p50_ms")) is not None for row in rows):
        return section("Latency", not_run("no single-stream latency was measured"))
    named, css = labels(rows), colours(map(who, rows))
    drawn = ""
    for key in ("p50", "p90", "p99"):
        values = [(row, name, number(row.get(f"{key}_ms"))) for row, name in zip(rows, named, strict=True)]
        given = [(css[who(row)], name, v, milliseconds(v)) for row, name, v in values if v is not None]
        drawn += f"<h3>{key}</h3>{charts.bars(given, f'{key} latency')}" if given else ""
    return section("Latency", drawn, "One request after the other, end to end from text; shorter is better.")


def throughput(rows: Sequence[Row], css: Mapping[str, str] | None = None) -> str:
    """Bars of requests a second, scenario by scenario. css: colour classes of artifacts on a page of many pictures."""
    rows = [row for row in rows if number(row.get("qps")) is not None]
    if not rows:
        return section("Throughput", not_run("no throughput was measured"))
    css, drawn = css or colours(map(who, rows)), ""
    for scenario in sorted({scenario_of(row) for row in rows}, reverse=True):
        chosen = [row for row in rows if scenario_of(row) == scenario]
        given = [
            (css[who(row)], name, row["qps"], f"{significant(row['qps'])} /s")
            for row, name in zip(chosen, labels(chosen), strict=True)
        ]
        drawn += f"<h3>{text(scenario)}</h3>{charts.bars(given, f'throughput {scenario}')}"
    return section("Throughput", drawn, "Requests a second; longer is better. offline: full batches.")


def curves(summary: Summary) -> str:
    """Validation metric, loss terms and what moved of their weights, over the epochs of each training."""
    history = {name: runs for name in MODELS if (runs := _epochs(rows_of(mapping(summary, "history"), name)))}
    if not history:
        return section("Training", not_run("the summary has no training history"))
    panels = [_metric_panel(history, measure_of(summary)), *(_loss_panel(n, h) for n, h in history.items())]
    for name, rows in history.items():
        panels += _settings_panels(name, rows)
    hint = "Upright lines separate the stages, whose names stand above. Losses, weights and temperature are means over "
    hint += "an epoch."
    return section("Training", f'<div class="pair">{"".join(panels)}</div>', hint)


def _epochs(rows: Sequence[dict[str, Any]]) -> list[tuple[float, dict[str, Any]]]:
    """History rows with their epoch counted through all stages, where each stage counts from 1 anew."""
    placed: list[tuple[float, dict[str, Any]]] = []
    before, stage = 0.0, None
    for position, row in enumerate(rows):
        if row.get("stage") != stage:
            before, stage = (placed[-1][0] if placed else 0.0), row.get("stage")
        epoch = number(row.get("epoch"))
        placed.append((before + epoch if epoch is not None else float(position + 1), row))
    return placed


def _stage_starts(history: Epochs) -> list[tuple[str, float]]:
    """Name of each stage, and the epoch after which it begins."""
    starts: list[tuple[str, float]] = []
    end = 0.0
    for position, (epoch, row) in enumerate(history):
        if position == 0 or row.get("stage") != history[position - 1][1].get("stage"):
            starts.append((str(row.get("stage") or ""), end))
        end = epoch
    return starts


def _series(name: str, history: Epochs, key: str, css: str, dash: str = "") -> charts.Series:
    points = [(epoch, value) for epoch, row in history if (value := number(row.get(key))) is not None]
    return charts.Series(name, points, css, dash)


def _metric_panel(history: dict[str, Epochs], measure: Measure) -> str:
    metric, best = measure.name, max if measure.higher_is_better else min
    dashes = {"teacher": "", "student": "", "control": "6 3", "aware": "2 3"}
    lines = [_series(name, rows, "metric", colour(name), dashes[name]) for name, rows in history.items()]
    lines = [line for line in lines if line.points]
    if not lines:
        return f"<div><h3>Validation {text(metric)}</h3>{not_run('no epoch has a validation metric')}</div>"
    staged = history.get("student") or next(iter(history.values()))
    label = "; ".join(f"{s.name} best {best(y for _, y in s.points):.3f}" for s in lines)
    chart = charts.lines(lines, _stage_starts(staged), f"validation {metric} by epoch: {label}", metric)
    return f"<div><h3>Validation {text(metric)}</h3>{chart}</div>"


def _loss_panel(name: str, history: Epochs) -> str:
    keys = {key for _, row in history for key in row if not key.startswith(WEIGHT)}
    lines = [_term_series(term, history, term) for term in ["loss", *sorted(keys - NO_LOSS)]]
    lines = [line for line in lines if any(y for _, y in line.points)]
    # With a single term of weight 1 the sum says nothing that the term does not.
    lines = lines[1:] if len(lines) == 2 and lines[0].points == lines[1].points else lines
    title = f"Losses of the {name}"
    if not lines:
        return f"<div><h3>{text(title)}</h3>{not_run('no epoch has a loss')}</div>"
    return _panel(title, lines, history, "loss")


def _settings_panels(name: str, history: Epochs) -> list[str]:
    """Weights of the loss terms, and the temperature, of a training in which they were not always the same."""
    keys = sorted({key for _, row in history for key in row if key.startswith(WEIGHT)})
    weights = [_term_series(key.removeprefix(WEIGHT), history, key) for key in keys]
    weights = [line for line in weights if line.points]
    temperature = [_term_series("loss", history, TEMPERATURE)]
    panels = []
    if any(_moves(line) for line in weights):
        panels.append(_panel(f"Weights of the losses of the {name}", weights, history, "weight"))
    if _moves(temperature[0]):
        panels.append(_panel(f"Temperature of the {name}", temperature, history, TEMPERATURE))
    return panels


def _term_series(term: str, history: Epochs, key: str) -> charts.Series:
    shown = TEMPERATURE if key == TEMPERATURE else term
    return _series(shown, history, key, f"l-{term}" if term in LOSSES else "c-other", LOSSES.get(term, "2 3"))


def _moves(line: charts.Series) -> bool:
    """Whether a line has more than one value, beyond the rounding of means."""
    values = [y for _, y in line.points]
    return bool(values) and max(values) - min(values) > 1e-6 * max(map(abs, values))


def _panel(title: str, lines: Sequence[charts.Series], history: Epochs, axis: str) -> str:
    values = [y for line in lines for _, y in line.points]
    log = min(values) > 0 and max(values) / min(values) > LOG_FROM
    last = ", ".join(f"{line.name} {line.points[-1][1]:.3g}" for line in lines)
    label = f"{title[0].lower()}{title[1:]} by epoch, last {last}"
    chart = charts.lines(lines, _stage_starts(history), label, f"{axis} (log scale)" if log else axis, log=log)
    return f"<div><h3>{text(title)}</h3>{chart}</div>"
