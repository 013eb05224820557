"""One HTML page that opens offline, and the parts that all pages have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files
from string import Template

from compress.bench.markup import embed, text

TEMPLATE = "report.html"


def page(title: str, body: str, held: str, value: object) -> str:
    """A page without references to anything outside it, which holds the plain data that it was drawn from.

    Args:
        held: what the data are called, and the id of the element with their JSON.
    """
    template = files("compress.bench").joinpath(TEMPLATE).read_text(encoding="utf-8")
    return Template(template).substitute(title=text(title), body=body, held=text(held), json=embed(value))


def pair(*parts: str) -> str:
    """Parts side by side where there is room, else below each other."""
    return f'<div class="pair">{"".join(parts)}</div>'


def tile(value: float | None, form: Callable[[float], str], label: str) -> str:
    """A large figure and what it is."""
    shown = '<b class="missing">not run</b>' if value is None else f"<b>{text(form(value))}</b>"
    return f'<div class="tile">{shown}<span>{text(label)}</span></div>'


def notices(said: Sequence[tuple[bool, str]]) -> str:
    """Sentences above the figures: (alarm or only a note, sentence)."""
    looks = {True: ("alarm", "alert"), False: ("note", "note")}
    drawn = "".join(
        f'<p class="warning {looks[alarm][0]}" role="{looks[alarm][1]}">{text(sentence)}</p>'
        for alarm, sentence in said
    )
    return f'<div class="warnings">{drawn}</div>' if drawn else ""
