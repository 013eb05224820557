"""What a person reads on stdout: the summary of a run, the plan, the bench, the machine, as tables."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from compress.tasks.measures import measure_named

MODELS = ("baseline", "teacher", "control", "student", "shipped")
WIDTH = 132
"""Columns where stdout is no terminal."""
METRICS = 4
"""Quality columns at the most."""
NOTHING = "–"


def console() -> Console:
    """A console on stdout that does not squeeze tables into 80 columns when it writes to a file or a pipe."""
    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, soft_wrap=False)


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
            _count(model.get("parameters")),
            NOTHING if size is None else f"{size / 1e6:,.1f}",
            *(_number(quality.get(metric), 4) for metric in metrics),
            _number(p50, 2),
            _number(latency.get("p99_ms"), 2),
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
        alone = _number((member.get("quality") or {}).get(metric), 4)
        lines.append(f"  {member['teacher']}{seed}, weight {member['weight']:g}: {metric} {alone}")
    if found := teacher.get("calibration"):
        lines.append(
            f"calibration        temperature {found['temperature']:.3f}; expected calibration error "
            f"{found['error_before']:.4f} -> {found['error_after']:.4f} on {found['rows']:,} validation rows"
        )
    return lines


LATENCY_COLUMNS = {
    "artifact": None,
    "target": None,
    "scenario": None,
    "threads": 0,
    "processes": 0,
    "affinity": None,
    "batch": 0,
    "offered_qps": 1,
    "min_ms": 3,
    "p50_ms": 3,
    "p90_ms": 3,
    "p99_ms": 3,
    "p99_ci_low": 3,
    "p99_ci_high": 3,
    "p999_ms": 3,
    "p50_ms_ratio": 3,
    "p50_ms_ratio_low": 3,
    "p50_ms_ratio_high": 3,
    "p99_ms_ratio": 3,
    "p99_ms_ratio_low": 3,
    "p99_ms_ratio_high": 3,
    "qps": 1,
    "qps_ratio": 3,
    "cpu_ms": 3,
    "tokenizer_ms": 3,
    "energy_mj": 3,
    "cost_per_million": 4,
    "startup_ms": 0,
    "peak_mb": 0,
    "mapped_mb": 0,
    "gpu_mb": 0,
    "metric": None,
    "quality": 4,
    "quality_low": 4,
    "quality_high": 4,
    "status": None,
}
"""Fields of bench rows in Markdown, as far as any row has them, and the digits of numbers after the point."""


LATENCY_MORE = {
    "processes": ("processes", 0),
    "offered_qps": ("offered/s", 1),
    "cost_per_million": ("per million", 3),
    "quality": ("quality", 4),
}
"""Heading and digits of figures that have a column where a row has them."""


def _tells(row: Mapping[str, Any], name: str) -> bool:
    """Whether a row has a figure that is worth a column."""
    value = row.get(name)
    return value is not None and not (name == "processes" and value == 1)


def latency_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Bench results as a Markdown table, with the fields' own names as headings."""
    columns = [name for name in LATENCY_COLUMNS if any(_tells(row, name) for row in rows)]

    def cell(row: Mapping[str, Any], name: str) -> str:
        digits, value = LATENCY_COLUMNS[name], row.get(name)
        text = str(NOTHING if value is None else value) if digits is None else _number(value, digits)
        return text.replace("|", "\\|")

    lines = [columns, ["---"] * len(columns), *([cell(row, name) for name in columns] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def print_ratios(rows: Sequence[Mapping[str, Any]]) -> None:
    """Compared bench results: the second file's figures, and what multiple of the first's they are."""
    table = Table()
    for column in ("artifact", "target", "scenario", "threads", "batch"):
        table.add_column(column, overflow="fold")
    for column in ("p50 ms", "×", "p99 ms", "×", "requests/s", "×"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            *(escape(str(row.get(key, NOTHING))) for key in ("artifact", "target", "scenario", "threads", "batch")),
            *(_number(row.get("p50_ms"), 3), _ratio(row, "p50_ms_ratio")),
            *(_number(row.get("p99_ms"), 3), _ratio(row, "p99_ms_ratio")),
            *(_number(row.get("qps"), 0), _ratio(row, "qps_ratio")),
        )
    console().print(table)


def print_latency(rows: Sequence[Mapping[str, Any]]) -> None:
    """Bench results side by side."""
    table = Table()
    for column in ("artifact", "target", "scenario"):
        table.add_column(column, overflow="fold")
    figures = ("threads", "batch", "p50 ms", "p90 ms", "p99 ms", "requests/s", "peak MB")
    more = [name for name in LATENCY_MORE if any(_tells(row, name) for row in rows)]
    for column in (*figures, *(LATENCY_MORE[name][0] for name in more)):
        table.add_column(column, justify="right")
    table.add_column("status", overflow="fold")
    for row in rows:
        table.add_row(
            *(escape(str(row.get(key, NOTHING))) for key in ("artifact", "target", "scenario", "threads", "batch")),
            *(_number(row.get(key), 3) for key in ("p50_ms", "p90_ms", "p99_ms")),
            _number(row.get("qps"), 0),
            _number(row.get("peak_mb"), 0),
            *(_number(row.get(name), LATENCY_MORE[name][1]) for name in more),
            escape(str(row.get("status", "ok"))),
        )
    console().print(table)


def _ratio(row: Mapping[str, Any], name: str) -> str:
    low, high = (row.get(f"{name}_{end}") for end in ("low", "high"))
    interval = "" if low is None and high is None else f" ({_number(low, 2)}–{_number(high, 2)})"
    return _number(row.get(name), 2) + interval


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
        table.add_row(stage["stage"], _count(stage["rows"]), about, _megabytes(disk), escape(stage["what"]))
    table.add_section()
    table.add_row("all", "", _duration(plan["seconds"]), _megabytes(plan["disk_bytes"]), "")
    screen.print(table)
    for line in plan_lines(plan):
        screen.print(line, markup=False, soft_wrap=True)


def plan_lines(plan: Mapping[str, Any]) -> list[str]:
    """Data, cache, disk, notes and assumptions."""
    data = plan["data"]
    return [
        f"data: {data['train']:,} train, {data['validation']:,} validation, {data['test']:,} test, "
        f"{data['unlabeled']:,} unlabeled; {data['answers']}; about {data['tokens']:.0f} tokens a row",
        f"teacher outputs on disk: {_megabytes(plan['cache_bytes'])} MB; "
        f"free in {plan['runs']}: {plan['free_bytes'] / 1e9:,.1f} GB",
        *(f"note: {note}" for note in plan["notes"]),
        *(f"assumed: {line}" for line in plan["assumptions"]),
        "recipe, data and environment are fine",
    ]


def print_cache(entries: Sequence[Mapping[str, Any]]) -> None:
    """Entries of the cache of teachers' outputs, and what they take together."""
    from compress.teachers.cache import SHORT

    table = Table()
    for column in ("key", "teacher", "rows", "layers", "MB", "last use (UTC)", "runs"):
        table.add_column(column, justify="right" if column in {"rows", "MB"} else "left", overflow="fold")
    for entry in entries:
        state = [] if entry["finished"] else ["(not finished)"]
        state += [f"(process {entry['held_by']})"] if entry["held_by"] else []
        table.add_row(
            entry["key"][:SHORT],
            escape(entry["teacher"]),
            _count(entry["rows"]),
            ",".join(map(str, entry["layers"])) or NOTHING,
            _megabytes(entry["size_bytes"]),
            entry["last_used"][:16].replace("T", " "),
            escape(", ".join([*entry["runs"], *state]) or NOTHING),
        )
    screen = console()
    screen.print(table)
    screen.print(f"{_megabytes(sum(entry['size_bytes'] for entry in entries))} MB", markup=False)


def print_diagnosis(found: Mapping[str, Any]) -> None:
    """Each package, runtime and device, and the command that would make it available."""
    table = Table()
    for column in ("what", "for", "status", "to get it"):
        table.add_column(column, overflow="fold")
    for item in found["items"]:
        status = item["version"] or "available" if item["available"] else "not available"
        table.add_row(item["name"], item["use"], status, escape(item["remedy"] or ""))
    screen = console()
    screen.print(table)
    if "limits" in found:
        screen.print(_limits(found["limits"]))


def _limits(found: Mapping[str, Any]) -> Table:
    """The roofs that `kdc doctor --limits` measured."""
    table = Table(title=f"limits with {found['threads']} thread(s): the best of what is installed")
    for column in ("what", "at best", "by"):
        table.add_column(column, overflow="fold")
    for roof in found["roofs"]:
        reached = roof["reason"] if roof["value"] is None else f"{roof['value']:,g} {roof['unit']}"
        table.add_row(roof["name"], reached, roof["by"] or "")
    return table


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
        table.add_row(escape(row["layer"]), row["operator"], _count(row["parameters"]), change, kept)
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
        shown = [_number(value, digits) for value, digits in (*figures, (row.get("quality_loss"), 4))]
        table.add_row(row["method"], row["outcome"], *shown, escape(row.get("reason") or ""))
    console().print(table)


def print_facts(facts: Mapping[str, Any], indent: str = "") -> None:
    """Nested plain data, one line a value."""
    screen = console()
    for key, value in facts.items():
        if isinstance(value, Mapping):
            screen.print(f"{indent}{key}:", markup=False)
            print_facts(value, indent + "  ")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            screen.print(f"{indent}{key}: {shown}", markup=False, soft_wrap=True)


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
    return f"gate {gate['gate']:<13} {verdict}: {_number(gate['value'], 4)}, limit {gate['limit']:g}"


def _number(value: Any, digits: int) -> str:
    return f"{value:,.{digits}f}" if isinstance(value, int | float) else NOTHING


def _count(value: int | None) -> str:
    return NOTHING if value is None else f"{value:,}"


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f}" if size < 1e7 else f"{size / 1e6:,.0f}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
