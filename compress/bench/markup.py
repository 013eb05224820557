"""Text and numbers as HTML for the report: everything that comes from a user is escaped here."""

from __future__ import annotations

import html
import itertools
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

KNOWN = ("baseline", "teacher", "control", "student", "shipped")
"""Models that have a colour of their own, in the order of the report."""
PALETTE = ("c-teacher", "c-control", "c-student", "c-shipped", "c-other", "c-baseline")
"""All classes that give a colour."""
NOT_RUN = "not run"


@dataclass(frozen=True)
class Cell:
    """One cell: shown HTML, and the value that the column is sorted by (None sorts last)."""

    shown: str
    value: float | str | None = None
    numeric: bool = True


def text(value: object) -> str:
    """Any text, escaped for element content and attribute values."""
    return html.escape(str(value), quote=True)


def colour(name: str) -> str:
    """CSS class that gives a model its colour."""
    return f"c-{name}" if name in KNOWN else "c-other"


def colours(names: Iterable[str]) -> dict[str, str]:
    """CSS classes for names in one picture: known models have theirs, the others take turns with what is left."""
    named = dict.fromkeys(names)
    free = [each for each in PALETTE if each not in map(colour, set(KNOWN) & named.keys())]
    turns = itertools.cycle(free or PALETTE)
    return {name: colour(name) if name in KNOWN else next(turns) for name in named}


def number(value: object) -> float | None:
    """The value as a finite float, or None where it is missing or no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, thousands separated: 0.412, 12.3, 1,230."""
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(places, 9)}f}"


def quality(value: float) -> str:
    """A quality measure, 0 to 1, with three decimals."""
    return f"{value:.3f}"


def difference(value: float) -> str:
    """A signed difference in a measure's own unit."""
    return f"{'+' if value >= 0 else '−'}{significant(abs(value))}"


def milliseconds(value: float) -> str:
    """A latency with its unit."""
    return f"{significant(value)} ms"


def points(value: float) -> str:
    """A difference of two quality measures in points of a hundred, signed: +2.1 points."""
    return f"{value * 100:+.1f} points"


def ratio(value: float) -> str:
    """A factor: 31×, 1.2×."""
    return f"{significant(value, 2 if value < 100 else 3)}×"


def megabytes(size: float) -> str:
    """Bytes as megabytes of 10^6 bytes."""
    return f"{significant(size / 1e6)} MB"


def count(value: float) -> str:
    """A large count, short: 22.7 M, 310 k."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{significant(value / unit)} {name}"
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Seconds as s, min or h."""
    if seconds < 120:
        return f"{significant(seconds, 2) if seconds < 10 else f'{seconds:.0f}'} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def cell(value: object, form: Callable[[float], str] = significant, *, absent: str = NOT_RUN) -> Cell:
    """A numeric cell, or a quiet word where there is no number."""
    known = number(value)
    return missing(absent) if known is None else Cell(form(known), known)


def missing(reason: str) -> Cell:
    """A cell without a value."""
    return Cell(f'<span class="missing">{text(reason)}</span>')


def words(value: object) -> Cell:
    """A cell of text."""
    return Cell(text(value), str(value), numeric=False)


def chip(shown: str, look: str) -> Cell:
    """A cell with a word in a frame; look: good, bad or nothing."""
    return Cell(f'<span class="chip {look}">{text(shown)}</span>', shown, numeric=False)


def table(headings: Sequence[str], rows: Iterable[Sequence[Cell]], label: str) -> str:
    """A table that scrolls sideways on narrow screens and sorts by a click on a heading."""
    rows = list(rows)
    numeric = [bool(rows) and all(row[i].numeric for row in rows) for i in range(len(headings))]
    head = "".join(
        f'<th scope="col"{_css("number" if n else "")}><button type="button">{text(h)}</button></th>'
        for h, n in zip(headings, numeric, strict=True)
    )
    body = "".join(f"<tr>{''.join(_td(c, i) for i, c in enumerate(row))}</tr>" for row in rows)
    return (
        f'<div class="scroll" role="region" aria-label="{text(label)}" tabindex="0"><table class="sortable">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _td(item: Cell, position: int) -> str:
    value = "" if item.value is None else f' data-value="{text(item.value)}"'
    if position == 0:
        return f'<th scope="row"{value}>{item.shown}</th>'
    return f"<td{_css('number' if item.numeric else '')}{value}>{item.shown}</td>"


def _css(name: str) -> str:
    return f' class="{name}"' if name else ""


def nested(value: object) -> str:
    """Plain data as nested definition lists; every value is escaped."""
    if isinstance(value, dict):
        rows = "".join(f"<dt>{text(key)}</dt><dd>{nested(inner)}</dd>" for key, inner in value.items())
        return f"<dl>{rows}</dl>" if rows else '<span class="missing">none</span>'
    if isinstance(value, list | tuple):
        if any(isinstance(inner, dict | list | tuple) for inner in value):
            return f"<ol>{''.join(f'<li>{nested(inner)}</li>' for inner in value)}</ol>"
        return text(", ".join(str(inner) for inner in value)) or '<span class="missing">none</span>'
    if isinstance(value, float):
        return text(f"{value:.6g}")
    return '<span class="missing">none</span>' if value is None else text(value)


def not_run(reason: str) -> str:
    """A paragraph in the place of a figure that cannot be drawn."""
    return f'<p class="missing">{NOT_RUN}: {text(reason)}</p>'


def section(title: str, content: str, hint: str = "") -> str:
    """A headed section."""
    below = f'<p class="hint">{text(hint)}</p>' if hint else ""
    return f"<section><h2>{text(title)}</h2>{below}{content}</section>"


def folded(title: str, content: str) -> str:
    """A section that opens by a click."""
    return f"<details><summary>{text(title)}</summary>{content}</details>"


def embed(value: object) -> str:
    """Plain data as JSON that may stand inside a script element: no `<`, `>` or `&`, NaN as null."""
    dumped = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, default=str)
    for sign in "<>&\u2028\u2029":
        dumped = dumped.replace(sign, f"\\u{ord(sign):04x}")
    return dumped


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
