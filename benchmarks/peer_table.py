"""What peers made of kdc's students, as a table."""

from __future__ import annotations

from typing import Any

from benchmarks.common import RESULTS
from benchmarks.tables import scale_of, spread, table

PEER_ROWS = RESULTS / "students.jsonl"
NAMES = ("textbrewer", "torchdistill", "sentence-transformers", "model2vec")
OURS = ("teacher", "control", "kdc")

Row = dict[str, Any]
"""One training by a peer, as `benchmarks.students.row_of` gives it."""


def peer_table(rows: list[Row]) -> list[str]:
    """Lines of the table, then why a peer was not run and where each figure comes from.

    The newest row of each peer, run and seed counts, and of a data set and kind of student those of the newest
    settings.
    """
    kinds: dict[tuple[str, str], list[Row]] = {}
    for row in _newest(rows):
        kinds.setdefault((row["data"], row["student"]), []).append(row)
    groups = [[row for row in found if row["settings"] == found[-1]["settings"]] for _, found in sorted(kinds.items())]
    lines = table(["data", "student", "metric", "seeds", *OURS, *NAMES], [_cells(found) for found in groups])
    notes = [_note(row) for found in groups for row in found]
    return [*lines, "", *notes]


def draw_peers(rows: list[Row]) -> str:
    """The section of the page; empty without rows."""
    if not rows:
        return ""
    head = [
        "",
        "## The same student trained by peers",
        "",
        "Test split, float32, percent, mean (lowest to highest) over seeds. Equal for all: start, rows, batches, the",
        "teacher's answers, steps, peak learning rate, how checkpoint and threshold are chosen. Each peer's losses,",
        "optimizer and schedule are those that its documentation shows (`benchmarks/peer_trainers.py`). Up to commit",
        "60aad56 `benchmarks.students` was called `benchmarks.peers`. model2vec is the exception: its own student,",
        "made of the same teacher and fitted to the labelled rows until it gets no better on the same validation rows.",
        "",
    ]
    return "\n".join([*head, *peer_table(rows)]) + "\n"


def _newest(rows: list[Row]) -> list[Row]:
    found: dict[tuple[str, str, int], Row] = {}
    for row in rows:
        key = (row["peer"], row["digest"], row["seed"])
        found.pop(key, None)
        found[key] = row
    return list(found.values())


def _cells(rows: list[Row]) -> list[str]:
    """One kind of student on one data set. What kdc reached counts once a run, whatever seeds a peer took."""
    first = rows[0]
    scale = scale_of(first["metric"])
    runs = list({row["digest"]: row for row in rows}.values())
    return [
        first["data"],
        first["student"],
        first["metric"],
        ", ".join(str(seed) for seed in sorted({row["seed"] for row in rows})),
        *(spread([row[name] for row in runs], scale) for name in OURS),
        *(_cell([row for row in rows if row["peer"] == name], scale) for name in NAMES),
    ]


def _cell(rows: list[Row], scale: float) -> str:
    if rows and all(row["not_run"] for row in rows):
        return "not run"
    return spread([row["test"] for row in rows], scale)


def _note(row: Row) -> str:
    about = f"- {row['peer']} {row['version'] or ''}".rstrip() + f", {row['recipe']} (seed {row['seed']}): "
    if row["not_run"]:
        return f"{about}not run: {row['not_run']}."
    changed = " with uncommitted changes" if row["changed"] else ""
    steps = "its own number of" if row["steps"] is None else f"{row['steps']:,}"
    return (
        f"{about}{steps} steps in {row['minutes']:.1f} minutes. `{row['command']}`; {row['device']}; "
        f"{row['date']}; commit {row['commit']}{changed}."
    )
