"""The report of bench results: one HTML file that opens offline, drawn from the rows that `kdc bench -o` keeps.

Rows of several devices stand in several parts, so that no picture mixes them. Whatever the rows lack is answered with
"not run: …" in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compress.artifacts import publishing
from compress.bench import figures, results_figures
from compress.bench.certified import certificate
from compress.bench.every import every_timing
from compress.bench.files import check_writable
from compress.bench.grouping import Device, by_device, complete
from compress.bench.machine import crowded, policy_warnings
from compress.bench.markup import (
    Cell,
    colours,
    folded,
    milliseconds,
    nested,
    not_run,
    number,
    section,
    table,
    text,
    words,
)
from compress.bench.naming import SINGLE, Row, labels, scenario_of, who
from compress.bench.page import notices, page, pair, tile
from compress.bench.results_figures import Colours
from compress.bench.summary import mapping
from compress.errors import RecipeError

SUFFIX = ".html"
REPEATED = "Some were measured several times: pictures show the one with the median p50, the table all."


def check_report(path: Path) -> None:
    """Refuse, before any work, a path that is not meant for a report or cannot be written.

    Raises:
        RecipeError: it does not end in .html, or is a folder. EnvironmentProblem: it cannot be written.
    """
    if path.suffix.lower() != SUFFIX or path.is_dir():
        what = "is a folder" if path.is_dir() else f"does not end in {SUFFIX}"
        raise RecipeError(f"--report {path} {what}; name the HTML file to write, as --report report{SUFFIX}")
    check_writable(path, "--report")


def write_results_report(rows: Sequence[Row], path: Path) -> None:
    """Write the report of rows, as `compress.bench.files` reads them, to `path`, whole or not at all."""
    drawn = render_results(rows)
    with publishing(path) as temporary:
        temporary.write_text(drawn, encoding="utf-8")


def render_results(rows: Sequence[Row]) -> str:
    """The report as one HTML page without references to anything outside it."""
    devices, css = by_device(rows), colours(map(who, rows))
    parts = [
        _header(rows, devices),
        notices(_warnings(devices)),
        *(_device(device, css, titled=len(devices) > 1) for device in devices),
        _certificates(rows),
        _not_run(devices),
        _every(devices),
        *(folded(f"Conditions: {device.name}", _conditions(device)) for device in devices),
    ]
    return page("Bench results · kdc report", "\n".join(parts), "results", list(rows))


def _header(rows: Sequence[Row], devices: Sequence[Device]) -> str:
    dates = sorted({str(row["date"]) for row in rows if row.get("date")})
    about = [
        "; ".join(device.name for device in devices),
        " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "",
        ", ".join(dict.fromkeys(_origin(row) for row in rows)),
    ]
    counts = (
        (len(devices), "device" if len(devices) == 1 else "devices, never in one picture"),
        (len({who(row) for row in rows}), "artifacts"),
        (sum(complete(row) for row in rows), "rows with figures"),
        (sum(_refused(row) for row in rows), "rows not run"),
    )
    tiles = "".join(tile(count, "{:.0f}".format, label) for count, label in counts)
    return (
        f'<h1>Bench results</h1><p class="about">{text(" · ".join(filter(None, about)))}</p>'
        f'<div class="tiles">{tiles}</div>'
    )


def _origin(row: Row) -> str:
    commit = f" ({str(row['commit'])[:10]})" if row.get("commit") else ""
    return f"kdc {row.get('kdc', 'of an unknown version')}{commit}"


def _refused(row: Row) -> bool:
    return str(row.get("status")).startswith("not run")


def _warnings(devices: Sequence[Device]) -> list[tuple[bool, str]]:
    """What makes figures unsafe, each sentence once: (alarm or only a note, sentence)."""
    said: dict[tuple[bool, str], None] = {}
    for device in devices:
        where = f"{device.name}: " if len(devices) > 1 else ""
        noted: dict[str, dict[str, None]] = {}
        for row in device.rows:
            what = f"{who(row)} ({row.get('target')}, {scenario_of(row)})"
            if row.get("partial"):
                said[True, f"{where}{what} was interrupted: its row is partial, and in no picture."] = None
            if str(row.get("status")).startswith("no rate"):
                said[True, f"{where}{what}: {row['status']}."] = None
            for note in _sentences(row.get("notes")):
                noted.setdefault(note, {})[what] = None
            said |= {(False, f"{where}{note}"): None for note in _unsafe(row)}
        said |= {(False, f"{where}{', '.join(rows)}: {note}"): None for note, rows in noted.items()}
        changed = [key for key in ("kdc", "commit") if len({str(row.get(key)) for row in device.rows}) > 1]
        if len({str(mapping(row, "device").get("versions")) for row in device.rows}) > 1:
            changed.append("versions of libraries")
        if changed:
            said[False, f"{where}the rows differ in {', '.join(changed)}; the conditions below say in what."] = None
        if len(device.settled) < sum(map(complete, device.rows)):
            said[False, f"{where}{REPEATED}"] = None
    return sorted(said, key=lambda item: not item[0])


def _unsafe(row: Row) -> list[str]:
    """What of the machine made figures unsafe when the row was measured."""
    device = mapping(row, "device")
    cores = [found for key in ("cores", "cpu_limit") if (found := number(device.get(key))) is not None]
    threads, processes = number(row.get("threads")), int(number(row.get("processes")) or 1)
    return [
        *_sentences(device.get("warnings")),
        *policy_warnings(device.get("governor")),
        *(crowded(threads, min(cores), processes) if threads is not None and cores else []),
    ]


def _sentences(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list | tuple) else []


def _device(device: Device, css: Colours, *, titled: bool) -> str:
    rows = device.settled
    title = f'<h2 class="device">{text(device.name)}</h2>' if titled else ""
    return title + "\n".join(
        [
            _fastest(rows),
            pair(results_figures.frontier(rows, css), figures.throughput(_unpaced(rows), css)),
            results_figures.distributions(rows, css),
            results_figures.load(rows, css),
            pair(results_figures.resources(rows, css), results_figures.start_up(rows, css)),
        ]
    )


def _unpaced(rows: Sequence[Row]) -> list[Row]:
    """Rows whose throughput was not given by the rate at which requests arrived."""
    return [row for row in rows if scenario_of(row) != "server"]


def _fastest(rows: Sequence[Row]) -> str:
    """The lowest median latency in one sentence, with its interval."""
    alone = [row for row in rows if scenario_of(row) == SINGLE]
    if not alone:
        return ""
    row, name = min(zip(alone, labels(alone), strict=True), key=lambda each: float(each[0]["p50_ms"]))
    ends = [end for key in ("p50_ci_low", "p50_ci_high") if (end := number(row.get(key))) is not None]
    between = f" (95% interval {milliseconds(ends[0])} to {milliseconds(ends[1])})" if len(ends) > 1 else ""
    said = f"One request after the other, {name} has the lowest median latency: {milliseconds(row['p50_ms'])}{between}."
    return f'<p class="headline">{text(said)}</p>'


def _certificates(rows: Sequence[Row]) -> str:
    """What runs have certified of the models, each once."""
    found: dict[str, Row] = {str(row["certificate"]): row for row in rows if mapping(row, "certificate")}
    if not found:
        why = "no artifact has a certificate, which bundles and folders of runs made by `kdc run` have"
        return section("Certificate", not_run(why))
    return "".join(certificate(row, f"Certificate of {who(row)}") for row in found.values())


def _not_run(devices: Sequence[Device]) -> str:
    refused = [(device.name, row) for device in devices for row in device.rows if _refused(row)]
    if not refused:
        return ""
    drawn = [
        [
            words(who(row)),
            _wrapped(row.get("reason") or row["status"]),
            words(row.get("target", "")),
            words(scenario_of(row)),
            words(name),
        ]
        for name, row in refused
    ]
    return section("Not run", table(["artifact", "why", "target", "scenario", "device"], drawn, "Not run"))


def _every(devices: Sequence[Device]) -> str:
    named = {id(row): device.name for device in devices for row in device.rows}
    rows = [row for device in devices for row in device.rows]
    more = [("device", lambda row: words(named[id(row)]))] if len(devices) > 1 else []
    return section("Every row", every_timing(rows, more))


def _wrapped(value: object) -> Cell:
    return Cell(f'<span class="wrapped">{text(value)}</span>', str(value), numeric=False)


def _conditions(device: Device) -> str:
    """The machine as each command found it."""
    commands: dict[str, dict[str, Any]] = {}
    for row in device.rows:
        when = str(row.get("date", "without a date"))
        commands.setdefault(f"{when}, {_origin(row)}", mapping(row, "device"))
    return "".join(f"<h3>{text(when)}</h3>{nested(found)}" for when, found in commands.items())
