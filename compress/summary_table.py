"""What a person reads of a run on stdout: its plan, its summary, and what quantization chose and left in float."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from compress.tables import NOTHING, console, count, megabytes, number
from compress.tasks.measures import measure_named

MODELS = ("baseline", "teacher", "control", "student", "shipped")
METRICS = 4
"""Quality columns at the most."""


def print_summary(summary: Mapping[str, Any]) -> None:
    """The summary of a run: one row a model, then what the figures mean, notes, and where things are."""
    screen = console()
    if summary.get("models"):
        screen.print(models_table(summary))
    for line in summary_lines(summary):
        screen.print(line, markup=False, soft_wrap=True)


def models_table(summary: Mapping[str, Any]) -> Table:
    """Baseline, teacher, control, student, shipped: sizes, quality on the test split, latency."""
    metrics = _metrics(summary)
    table = Table(title=f"{summary.get('name', 'run')} (quality on the test split)", title_justify="left")
    table.add_column("model")
    for column in ("parameters", "size MB", *metrics, "p50 ms", "p99 ms", "×"):
        table.add_column(column, justify="right")
    teacher = _latency(summary, "teacher").get("p50_ms")
    for name in MODELS:
        model = summary["models"].get(name)
        if not model:
            continue
        quality, latency = model.get("quality") or {}, _latency(summary, name)
        p50 = latency.get("p50_ms")
        size = model.get("size_bytes")
        table.add_row(
            name,
            count(model.get("parameters")),
            NOTHING if size is None else f"{size / 1e6:,.1f}",
            *(number(quality.get(metric), 4) for metric in metrics),
            number(p50, 2),
            number(latency.get("p99_ms"), 2),
            f"{teacher / p50:,.1f}" if teacher and p50 else NOTHING,
        )
    return table


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """What the teacher is, retention, gain, speed-up, gates, notes, stages that did not run, and paths."""
    measure = measure_named(summary.get("metric") or "metric")
    lines = _teacher_lines((summary.get("models") or {}).get("teacher") or {}, measure.name)
    retained = measure_named(summary.get("retention_metric") or measure.name)
    if summary.get("retention") is not None:
        kept = "of the teacher's {}" if retained.higher_is_better else "(the teacher's {} ÷ the shipped model's)"
        lines.append(f"retention          {summary['retention']:.1%} {kept.format(retained.name)}")
    if summary.get("distillation_gain") is not None:
        lower = "" if measure.higher_is_better else f" (a lower {measure.name})"
        lines.append(
            f"distillation gain  {summary['distillation_gain']:+.4f}{lower} over the same student on hard labels"
        )
    if summary.get("speedup") is not None:
        lines.append(f"speed-up           {summary['speedup']:.1f}× (p50, same runtime, end to end from text)")
    lines += _tried(summary.get("candidates") or [])
    lines += guard_lines(summary.get("guard"))
    lines += _certified(summary.get("certificate"))
    lines += [_gate(gate) for gate in summary.get("gates") or []]
    lines += [
        f"{stage['stage']}: {stage['status']}" + (f": {stage['reason']}" if stage.get("reason") else "")
        for stage in summary.get("stages") or []
        if stage.get("status") in ("skipped", "failed")
    ]
    lines += [f"note: {note}" for note in summary.get("notes") or []]
    named = (("run", "run"), ("report", "report"), ("bundle", "bundle"))
    lines += [f"{title:<7}{summary[key]}" for title, key in named if summary.get(key)]
    return lines


def _tried(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What `quantize.method: auto` took, and what it left, each with its speed over float."""
    said = []
    for row in rows:
        speed = "" if row.get("speedup") is None else f" {row['speedup']:.2f}×"
        outcome = "" if row["outcome"] in ("shipped", "slower than the choice") else f" ({row['outcome']})"
        said.append(f"{row['method']}{speed}{outcome}")
    shipped = next((row["method"] for row in rows if row["outcome"] == "shipped"), None)
    return [f"automatic choice   {shipped}, of: {', '.join(said)}"] if rows else []


def guard_lines(found: Mapping[str, Any] | None) -> list[str]:
    """Which layers stay in float, and what that is worth."""
    if found is None or not found["kept"]:
        return []
    before, after = found["before"]["value"], found["after"]["value"]
    layers = f"{len(found['kept'])} of {len(found['ranking'])} layers in float: {', '.join(found['kept'])}"
    return [f"guard              quality loss {before:.4f} -> {after:.4f} ({found['measured']}) with {layers}"]


def _certified(found: Mapping[str, Any] | None) -> list[str]:
    """What the shipped model lost against its parent, how sure that is, and the slices that lost more."""
    shipped = next((each for each in (found or {}).get("comparisons", []) if each["role"] == "parent"), None)
    if found is None or shipped is None:
        return []
    metric = shipped["whole"]["metric"]
    change = "not defined" if metric is None else f"{metric['name']} {metric['difference']:+.4f}"
    sure = "" if metric is None else f" ({found['confidence']:.0%}: {metric['low']:+.4f} … {metric['high']:+.4f})"
    flagged = [f"{part['by']} {part['value']}" for part in shipped["slices"] if part["status"] == "flagged"]
    lost = f"; loses more on: {', '.join(flagged)}" if flagged else ""
    return [f"certificate        {shipped['model']} against the float student: {change}{sure}{lost}"]


def _teacher_lines(teacher: Mapping[str, Any], metric: str) -> list[str]:
    """Of several teachers what each is worth by itself, and how the temperature was fitted."""
    lines = [f"teacher            {teacher['description']}"] if teacher.get("description") else []
    for member in teacher.get("members") or []:
        seed = "" if member.get("seed") is None else f", seed {member['seed']}"
        alone = number((member.get("quality") or {}).get(metric), 4)
        lines.append(f"  {member['teacher']}{seed}, weight {member['weight']:g}: {metric} {alone}")
    if found := teacher.get("calibration"):
        lines.append(
            f"calibration        temperature {found['temperature']:.3f}; expected calibration error "
            f"{found['error_before']:.4f} -> {found['error_after']:.4f} on {found['rows']:,} validation rows"
        )
    return lines


def _metrics(summary: Mapping[str, Any]) -> list[str]:
    """The primary metric, then others that any model has."""
    found = [key for model in summary["models"].values() if model for key in model.get("quality") or {}]
    primary = [summary["metric"]] if summary.get("metric") in found else []
    return list(dict.fromkeys([*primary, *found]))[:METRICS]


def _latency(summary: Mapping[str, Any], artifact: str) -> Mapping[str, Any]:
    """The first single-stream row of an artifact: the first threads of the recipe."""
    rows = summary.get("latency") or []
    return next((r for r in rows if r["artifact"] == artifact and r["scenario"] == "single-stream"), {})


def _gate(gate: Mapping[str, Any]) -> str:
    verdict = "met" if gate["passed"] else "NOT MET"
    return f"gate {gate['gate']:<13} {verdict}: {number(gate['value'], 4)}, limit {gate['limit']:g}"


def print_plan(plan: Mapping[str, Any]) -> None:
    """What a run would do, how long and how much disk."""
    screen = console()
    table = Table(title=f"{plan['name']}: plan", title_justify="left")
    table.add_column("stage")
    for column in ("rows", "about", "disk MB"):
        table.add_column(column, justify="right")
    table.add_column("what", overflow="fold")
    for stage in plan["stages"]:
        disk = stage["disk_bytes"]
        about = _duration(stage["seconds"])
        table.add_row(stage["stage"], count(stage["rows"]), about, megabytes(disk), escape(stage["what"]))
    table.add_section()
    table.add_row("all", "", _duration(plan["seconds"]), megabytes(plan["disk_bytes"]), "")
    screen.print(table)
    for line in plan_lines(plan):
        screen.print(line, markup=False, soft_wrap=True)


def plan_lines(plan: Mapping[str, Any]) -> list[str]:
    """Data, cache, disk, notes and assumptions."""
    data = plan["data"]
    return [
        f"data: {data['train']:,} train, {data['validation']:,} validation, {data['test']:,} test, "
        f"{data['unlabeled']:,} unlabeled; {data['answers']}; about {data['tokens']:.0f} tokens a row",
        f"teacher outputs on disk: {megabytes(plan['cache_bytes'])} MB; "
        f"free in {plan['runs']}: {plan['free_bytes'] / 1e9:,.1f} GB",
        *(f"note: {note}" for note in plan["notes"]),
        *(f"assumed: {line}" for line in plan["assumptions"]),
        "recipe, data and environment are fine",
    ]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def print_guard(found: Mapping[str, Any] | None) -> None:
    """What was asked of quantization, and each layer that it lowered by how much it alone changes the answers."""
    if found is None:
        return
    screen, loss = console(), found["after"]["value"]
    verdict = "met" if found["met"] else "NOT MET"
    screen.print(f"guard {verdict}: loss {loss:.4f} in {found['measured']}, limit {found['limit']:g}", markup=False)
    if not found["ranking"]:
        return
    table = Table()
    table.add_column("layer", overflow="fold")
    for column in ("operator", "parameters", "change of output", "stays float"):
        table.add_column(column, justify="right")
    for row in found["ranking"]:
        change, kept = f"{row['error']:.2%}", "yes" if row["kept"] else ""
        table.add_row(escape(row["layer"]), row["operator"], count(row["parameters"]), change, kept)
    screen.print(table)


def print_candidates(rows: Sequence[Mapping[str, Any]]) -> None:
    """Every candidate of the automatic choice, and what became of it."""
    if not rows:
        return
    table = Table()
    for column in ("method", "outcome", "p50 ms", "requests/s", "× float", "size MB", "loss", "why"):
        table.add_column(column, overflow="fold")
    for row in rows:
        size = None if row.get("size_bytes") is None else row["size_bytes"] / 1e6
        figures = ((row.get("p50_ms"), 3), (row.get("qps"), 0), (row.get("speedup"), 2), (size, 1))
        shown = [number(value, digits) for value, digits in (*figures, (row.get("quality_loss"), 4))]
        table.add_row(row["method"], row["outcome"], *shown, escape(row.get("reason") or ""))
    console().print(table)
