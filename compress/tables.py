"""Tables on stdout: the console, numbers in cells, and what several commands print: facts, the cache, the machine."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

WIDTH = 132
"""Columns where stdout is no terminal."""
FOLDED, ROOMY = 10, 24
"""Characters to which a column of text may be folded: in a terminal, and in a file or pipe, which may be wider."""
NOTHING = "–"


def console() -> Console:
    """A console on stdout that does not squeeze tables into 80 columns when it writes to a file or a pipe."""
    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, soft_wrap=False)


def print_whole(table: Table) -> None:
    """Print a table whose columns of numbers are `no_wrap` with every number in full.

    A file or a pipe is given as wide a table as it takes. A terminal too narrow for it gets a paragraph a row instead.
    """
    screen = console()
    if not sys.stdout.isatty():
        Console(width=max(WIDTH, _least_width(table, ROOMY)), highlight=False).print(table)
    elif _least_width(table, FOLDED) <= screen.width:
        screen.print(table)
    else:
        if table.title:
            screen.print(table.title)
        for cells in zip(*(column.cells for column in table.columns), strict=True):
            named = [(column.header, cell) for column, cell in zip(table.columns, cells, strict=True) if cell]
            screen.print(" · ".join(f"{header} {cell}".strip() for header, cell in named))
            screen.print()


def _least_width(table: Table, folded: int) -> int:
    """Columns of a screen that a table needs when text is folded to so many characters, and numbers are not."""
    least = 1
    for column in table.columns:
        widest = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
        least += 3 + min(widest, (column.max_width or widest) if column.no_wrap else folded)
    return least


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
            count(entry["rows"]),
            ",".join(map(str, entry["layers"])) or NOTHING,
            megabytes(entry["size_bytes"]),
            entry["last_used"][:16].replace("T", " "),
            escape(", ".join([*entry["runs"], *state]) or NOTHING),
        )
    screen = console()
    screen.print(table)
    screen.print(f"{megabytes(sum(entry['size_bytes'] for entry in entries))} MB", markup=False)


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


def number(value: Any, digits: int) -> str:
    """A number with its digits after the point and commas; what is none is a dash."""
    return f"{value:,.{digits}f}" if isinstance(value, int | float) else NOTHING


def count(value: int | None) -> str:
    """A whole number with commas, or a dash."""
    return NOTHING if value is None else f"{value:,}"


def megabytes(size: float) -> str:
    """Bytes in 10^6, with a digit after the point below ten."""
    return f"{size / 1e6:,.1f}" if size < 1e7 else f"{size / 1e6:,.0f}"
