"""What `benchmarks.deploy` found, as a table."""

from __future__ import annotations

from typing import Any

from benchmarks.common import RESULTS
from benchmarks.deploy_verdict import fastest, measured, ratios
from benchmarks.tables import scale_of, table

DEPLOY_ROWS = RESULTS / "deploy.jsonl"

Row = dict[str, Any]
"""One artifact, as `benchmarks.deploy` appends it."""


def deploy_table(rows: list[Row]) -> list[str]:
    """Lines of the table of one session: a row an artifact, then how kdc's compare, then what each of them is."""
    cells = list(dict.fromkeys(cell for row in rows for cell in row["cells"]))
    headings = ["artifact", "agreement", rows[0]["metric"], "MB", *cells, "spread"]
    best = {cell: fastest(measured(rows), cell) for cell in cells}
    lines = [[row["artifact"], *_quality(row), *_times(row, best, cells), _spread(row)] for row in rows]
    for row in measured(rows, "kdc"):
        compared = ratios(row, rows)
        shown = [f"{compared[cell][0]:.2f}" if cell in compared else "–" for cell in cells]
        lines.append([f"{row['artifact']} ÷ fastest peer", "", "", "", *shown, ""])
    return [*table(headings, lines), "", *(_note(row) for row in rows)]


def draw_deploy(rows: list[Row]) -> str:
    """The section of the page; empty without rows. The newest session of each kind of student and metric counts."""
    if not rows:
        return ""
    sessions: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        subject = (row["student"], row["metric"])
        same = sessions.get(subject, [])
        sessions[subject] = [*(same if same and same[-1]["date"] == row["date"] else []), row]
    lines = [
        "",
        "## Deploy paths",
        "",
        "One fine-tuned student through kdc and through peers, each on the runtime it is for. Columns such as 32 × 64:",
        "milliseconds of the model alone on a batch of 32 rows of 64 tokens of real text, one thread; medians over",
        "rounds in which all take turns in one process; bold: the fastest. *Spread*: the largest difference of two",
        "rounds' medians, as a share of the median. *÷ fastest peer*: median over the rounds. *Agreement*: rows with",
        "the same first label as the float student in torch, batches of 32 padded to their longest row.",
        "*MB*: graph and weights. `benchmarks/deploy_peers.py` says what each peer does.",
    ]
    for found in sessions.values():
        lines += ["", *_head(found[0]), "", *deploy_table(found)]
    return "\n".join(lines) + "\n"


def _head(row: Row) -> list[str]:
    machine = row["machine"]
    changed = " with uncommitted changes" if row["changed"] else ""
    quality = f"{row['metric']} {scale_of(row['metric']) * row['float_quality']:.1f}"
    lines = [
        f"{row['recipe']}: {row['student']}, float {quality} on {row['rows']:,} test rows, {row['float_mb']:.1f} MB. "
        f"{machine.get('processor')}, {machine.get('cores')} cores, load {machine.get('load_average')}; "
        f"{row['date'][:10]}, commit {row['commit']}{changed}; `{row['command']}`.",
    ]
    if machine.get("warnings"):
        lines.append(f"**Not safe to quote**: {'; '.join(machine['warnings'])}.")
    return lines


def _quality(row: Row) -> list[str]:
    if row["not_run"]:
        return ["not run", "–", "–"]
    return [f"{row['agreement']:.1%}", f"{scale_of(row['metric']) * row['quality']:.1f}", f"{row['size_mb']:.1f}"]


def _times(row: Row, best: dict[str, Row | None], cells: list[str]) -> list[str]:
    if row["not_run"]:
        return ["–"] * len(cells)
    shown = {cell: f"{row['cells'][cell]['p50_ms']:.3g}" for cell in cells}
    return [f"**{shown[cell]}**" if best[cell] is row else shown[cell] for cell in cells]


def _spread(row: Row) -> str:
    found = [(cell["high_ms"] - cell["low_ms"]) / cell["p50_ms"] for cell in row["cells"].values()]
    return f"{max(found):.0%}" if found else "–"


def _note(row: Row) -> str:
    """What an artifact is, and why it was not run."""
    told = [", ".join(f"{name} {version}" for name, version in row["packages"].items())]
    if row["roof"]:
        told.append(_roof(row["roof"]))
    if row["candidates"]:
        told.append(_candidates(row["candidates"]))
    if row["not_run"]:
        told.append(f"not run: {row['not_run']}")
    return f"- {row['artifact']}: {'; '.join(part for part in told if part)}."


def _roof(roof: Row) -> str:
    return (
        f"{roof['cell']} takes {roof['times']:.1f} times as long as its {roof['multiply_adds'] / 1e6:,.0f} million "
        f"multiply-adds at the int8 roof of one core ({roof['gop_s']:.0f} GOP/s, {roof['by']})"
    )


def _candidates(rows: list[Row]) -> str:
    """The candidates of `quantize.method: auto`, each with its speed over float and what became of it."""
    said = []
    for row in rows:
        speed = "" if row.get("speedup") is None else f" {row['speedup']:.2f}×"
        said.append(f"{row.get('method')}{speed} ({row.get('outcome')})")
    return f"chosen of {', '.join(said)}"
