"""The pictures of the results: one a data set that several kinds of students were measured on."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.frontier import data_set, pictures


def row(recipe: str, student: str, retention: float | None, p50: float, **changes: Any) -> dict[str, Any]:
    latency = {"teacher": 20.0, "shipped": p50}
    return {"recipe": recipe, "student": student, "retention": retention, "p50_ms": latency} | changes


@pytest.mark.parametrize(
    ("recipe", "student", "name"),
    [
        ("amazon-google", "transformer", "amazon-google"),
        ("amazon-google-mobile", "mobile", "amazon-google"),
        ("amazon-google-two-tower", "two-tower", "amazon-google"),
        ("mwpd-category-static-2", "static", "mwpd-category-2"),
    ],
)
def test_data_sets_by_name(recipe: str, student: str, name: str) -> None:
    """The kind of student is no part of it."""
    assert data_set(row(recipe, student, 1.0, 1.0)) == name


def test_one_dot_a_kind_at_its_mean() -> None:
    """Seeds are averaged; the teacher stands at 100%; a data set with one kind has no picture."""
    rows = [
        row("a", "transformer", 0.97, 4.0),
        row("a", "transformer", 0.99, 4.0),
        row("a-mobile", "mobile", 0.95, 0.6),
    ]
    old = row("a", "transformer", 0.5, 9.0, settings="old")
    found = pictures([old, *rows, row("b", "mobile", 1.0, 1.0), row("a-static", "static", None, 0.2)])
    assert list(found) == ["frontier-a.svg"]
    space = "{http://www.w3.org/2000/svg}"
    titles = [title.text for title in ElementTree.fromstring(found["frontier-a.svg"]).iter(f"{space}title")]  # noqa: S314  # our own picture
    assert [str(title).split(":")[0] for title in titles] == ["teacher", "mobile", "transformer"]
    assert "98.000" in str(titles[2])
    assert "p50 0.6" in str(titles[1])
