"""Pictures of bench rows, each a section; "not run: …" where the rows do not have what it shows.

Each is given rows of one device, one for each measurement, and the artifacts' colours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from compress.bench import charts
from compress.bench.markup import megabytes, milliseconds, not_run, number, section, significant, text
from compress.bench.naming import SINGLE, Row, labels, scenario_of, who
from compress.bench.search import BEHIND
from compress.bench.summary import rows_of
from compress.tasks.measures import measure_named

LONGEST = 20
"""Letters of a name that stands at its point; where one is longer, points are numbered and named below."""
CROWDED = 5
"""Most points of a picture that has the names in it."""
DASHES = ("", "7 3", "2 3", "9 3 2 3", "1 4", "12 4")
"""Of the lines of one colour, one after the other."""
SHARES = (0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
"""Ticks of the axis of probabilities."""
SCENARIOS = (SINGLE, "multi-stream", "server", "offline")
MODEL = ("artifact", "sha256", "target", "threads", "processes", "affinity", "length")
"""What a model and its processes are the same in, whoever asks them."""
CHANCE = 2
"""Standard deviations that a rate of arrivals may be below its mean before a queue is said to have grown."""
NO_RATES = "no row has a rate; measure with `--scenario server` at several `--qps`, or with `--find-qps`"
Colours = Mapping[str, str]
Rate = tuple[float, float, float, bool]
"""Requests offered a second, p50 and p99 in milliseconds, and whether the queue grew."""


def frontier(rows: Sequence[Row], css: Colours) -> str:
    """Quality against p50 latency of one request, a chart for each metric."""
    title, alone = "Quality against latency", _of(rows, SINGLE)
    judged = [row for row in alone if number(row.get("quality")) is not None]
    if not judged:
        return section(
            title, not_run("no single-stream row has a quality; measure with `--data FILE` of labelled rows")
        )
    metrics = dict.fromkeys(str(row.get("metric")) for row in judged)
    drawn = "".join(_frontier([row for row in judged if str(row.get("metric")) == name], name, css) for name in metrics)
    hint = "The dotted line joins what nothing beats in both; upright lines are 95% intervals."
    lacking = [name for row, name in zip(alone, labels(alone), strict=True) if row not in judged]
    hint += f" Without a quality: {', '.join(lacking)}." if lacking else ""
    asked = sorted({str(row.get("quality_rows")) for row in judged})
    hint += f" Judged on different numbers of rows ({', '.join(asked)}): not the same data." if len(asked) > 1 else ""
    return section(title, drawn, hint)


def _frontier(rows: Sequence[Row], metric: str, css: Colours) -> str:
    names, higher = labels(rows), measure_named(metric).higher_is_better
    numbered = len(names) > CROWDED or max(map(len, names)) > LONGEST
    points = [
        charts.Point(
            name,
            float(row["p50_ms"]),
            float(row["quality"]),
            css=css[who(row)],
            mark=str(place) if numbered else None,
            low=number(row.get("quality_low")),
            high=number(row.get("quality_high")),
        )
        for place, (row, name) in enumerate(zip(rows, names, strict=True), 1)
    ]
    drawn = charts.pareto(points, [], metric, higher_is_better=higher)
    if numbered:
        drawn += charts.key([(point.colour, f"{point.mark} · {point.name}") for point in points])
    better = "Up" if higher else "Down"
    return f'<h3>{text(metric)}</h3><p class="hint">{better} and to the left is better.</p>{drawn}'


def distributions(rows: Sequence[Row], css: Colours) -> str:
    """Latency at each probability, a chart for each scenario; on an axis that stretches both tails."""
    title = "Latency distributions"
    if not any(_quantiles(row) for row in rows):
        return section(title, not_run("no row has quantiles, which kdc before 0.2.0 did not keep; measure again"))
    grouped: dict[str, list[Row]] = {}
    for row in (row for scenario in SCENARIOS for row in _of(rows, scenario)):
        grouped.setdefault(_asked(row), []).append(row)
    panels = "".join(_distribution(group, title, css) for title, group in grouped.items())
    hint = (
        "What share of the calls was answered within which time, up to the quantile that one call is beyond. "
        "A call is one request, or one batch in multi-stream and offline."
    )
    return section(title, f'<div class="pair">{panels}</div>', hint)


def _asked(row: Row) -> str:
    """Scenario, and how often requests arrived."""
    bound, rate = number(row.get("p99_bound_ms")), number(row.get("offered_qps"))
    if bound is not None and rate is None:
        return f"no rate within {bound:g} ms: the lowest p99 seen"
    if bound is not None:
        return f"server, highest rate within {bound:g} ms"
    return scenario_of(row) if rate is None else f"{scenario_of(row)}, {significant(rate)}/s"


def _distribution(rows: Sequence[Row], title: str, css: Colours) -> str:
    known = [row for row in rows if _quantiles(row)]
    if not known:
        return ""
    names = [
        f"{name}, {significant(row['offered_qps'])}/s" if row.get("p99_bound_ms") and row.get("offered_qps") else name
        for row, name in zip(known, labels(known), strict=True)
    ]
    ticks = [(_stretched(p), f"{100 * p:g}%") for p in SHARES]
    lines = [
        charts.Series(name, [(_stretched(p), ms) for p, ms in _quantiles(row)], css[who(row)], dash)
        for name, row, dash in zip(names, known, _dashes([css[who(row)] for row in known]), strict=True)
    ]
    chart = charts.latencies(
        lines, "share of calls answered (both tails stretched)", "latency of a call, ms (log scale)", ticks=ticks
    )
    lacking = len(rows) - len(known)
    said = f'<p class="hint">Without quantiles: {lacking} row(s) of an older kdc.</p>' if lacking else ""
    return f"<div><h3>{text(title)}</h3>{said}{chart}{charts.legend(lines)}</div>"


def _stretched(probability: float) -> float:
    """Its logit."""
    return math.log(probability / (1 - probability))


def _quantiles(row: Row) -> list[tuple[float, float]]:
    """Probability between 0 and 1 and latency, as far as they are numbers that a logarithm has."""
    found = row.get("latency_quantiles_ms")
    pairs = (
        [each for each in found if isinstance(each, list | tuple) and len(each) == 2]
        if isinstance(found, list | tuple)
        else []
    )
    return [
        (p, ms)
        for p, ms in ((number(p), number(ms)) for p, ms in pairs)
        if p is not None and 0 < p < 1 and ms and ms > 0
    ]


def _dashes(classes: Sequence[str]) -> list[str]:
    """A pattern for each line; lines of one colour have different ones."""
    return [DASHES[classes[:place].count(each) % len(DASHES)] for place, each in enumerate(classes)]


def load(rows: Sequence[Row], css: Colours) -> str:
    """p50 and p99 against the rate at which requests arrive."""
    title, lanes = "Latency under rising load", _lanes(_of(rows, "server"))
    if not lanes:
        return section(title, not_run(NO_RATES))
    bounds = {bound for row in rows if (bound := number(row.get("p99_bound_ms"))) is not None and bound > 0}
    names, dashes = labels([row for row, _ in lanes]), _dashes([css[who(row)] for row, _ in lanes])
    panels, lines = "", list[charts.Series]()
    for place, figure in ((1, "p50"), (2, "p99")):
        lines = [
            charts.Series(
                name,
                [(rate[0], float(rate[place])) for rate in rates],
                css[who(row)],
                dash,
                {rate[0] for rate in rates if rate[3]},
            )
            for (row, rates), name, dash in zip(lanes, names, dashes, strict=True)
        ]
        level = max(bounds) if figure == "p99" and len(bounds) == 1 else 0
        chart = charts.latencies(
            lines, "requests offered a second (log scale)", f"{figure}, ms (log scale)", level=level
        )
        panels += f"<div><h3>{figure}</h3>{chart}</div>"
    hint = (
        "Requests arrive at random times (Poisson) and wait for each other; latency counts from the arrival. "
        "Hollow: the queue grew, so that latency hangs on how long was measured."
    )
    hint += " The dashed level is the bound of the search." if len(bounds) == 1 else ""
    return section(title, f'<div class="pair">{panels}</div>{charts.legend(lines)}', hint)


def _lanes(rows: Sequence[Row]) -> list[tuple[Row, list[Rate]]]:
    """The first row of each artifact, target and number of threads, with all their rates in ascending order."""
    found: dict[tuple[str, ...], tuple[Row, list[Rate]]] = {}
    for row in rows:
        rates = [rate for each in rows_of(row, "tried_rates") or [row] if (rate := _rate(each)) is not None]
        if rates:
            found.setdefault(_model(row), (row, []))[1].extend(rates)
    return [(row, sorted(rates)) for row, rates in found.values()]


def _rate(found: Mapping[str, Any]) -> Rate | None:
    offered, answered, p50, p99 = (number(found.get(key)) for key in ("offered_qps", "qps", "p50_ms", "p99_ms"))
    if offered is None or p50 is None or p99 is None or min(offered, p50, p99) <= 0:
        return None
    # Of N random arrivals the rate itself differs from its mean: by chance alone rarely more than 2 / sqrt(N) of it.
    requests = number(found.get("requests"))
    arrived = offered * (1 - CHANCE / math.sqrt(requests)) if requests and requests > 0 else offered
    return offered, p50, p99, answered is not None and answered * BEHIND < arrived


def resources(rows: Sequence[Row], css: Colours) -> str:
    """Bars of size on disk and peak memory."""
    sized = _each(rows, "size_bytes", lambda row: (who(row), str(row.get("sha256"))))
    # Targets, threads and scenarios deploy the same files, so that they are no part of the name here.
    plain: list[Row] = [{key: row[key] for key in ("artifact", "sha256", "size_bytes") if key in row} for row in sized]
    size = _bars(plain, "size_bytes", megabytes, css, "no row has a size")
    peak = _bars(
        _each(rows, "peak_mb", _model), "peak_mb", lambda v: f"{significant(v)} MB", css, "no memory was measured"
    )
    return section(
        "Size and memory",
        f"<h3>Bytes of what is deployed</h3>{size}<h3>Peak memory of a process that answers</h3>{peak}",
    )


def start_up(rows: Sequence[Row], css: Colours) -> str:
    """Bars of the time from the start of a process to its first answer."""
    found = _each(rows, "startup_ms", _model)
    hint = "From the start of a fresh process to its first answer; the files have been read before."
    return section("Start-up", _bars(found, "startup_ms", milliseconds, css, "no start-up was measured"), hint)


def _model(row: Row) -> tuple[str, ...]:
    return tuple(str(row.get(key)) for key in MODEL)


def _each(rows: Sequence[Row], field: str, key: Callable[[Row], tuple[str, ...]]) -> list[Row]:
    """Of rows with equal keys the first that has the figure, in the order of SCENARIOS."""
    found: dict[tuple[str, ...], Row] = {}
    for scenario in SCENARIOS:
        for row in _of(rows, scenario):
            if number(row.get(field)) is not None:
                found.setdefault(key(row), row)
    return list(found.values())


def _bars(rows: Sequence[Row], field: str, form: Callable[[float], str], css: Colours, absent: str) -> str:
    if not rows:
        return not_run(absent)
    # Who asked says nothing of a process.
    plain = [{key: value for key, value in row.items() if key != "load"} for row in rows]
    given = [
        (css[who(row)], name, float(row[field]), form(row[field]))
        for row, name in zip(rows, labels(plain), strict=True)
    ]
    return charts.bars(given, field)


def _of(rows: Sequence[Row], scenario: str) -> list[Row]:
    return [row for row in rows if scenario_of(row) == scenario]
