"""The memory benchmark: bytes a further row takes, its limit, its picture, and a corpus of any size."""

from __future__ import annotations

import csv
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.memory import LIMIT, check, growth, newest, picture
from benchmarks.memory_corpus import titles
from compress.errors import GateError


def row(rows: int, peak: float, corpus: str = "unlabeled") -> dict[str, Any]:
    return {"corpus": corpus, "rows": rows, "peak_mb": {"data": peak / 2, "student": peak, "outputs": 1.0}}


def test_growth_is_bytes_a_row_between_smallest_and_largest() -> None:
    """By the highest stage of each run; a size measured again counts as it was last."""
    found = newest([row(10_000, 900.0), row(100_000, 503.6), row(10_000, 500.0)])
    assert growth(found["unlabeled"]) == pytest.approx(40.0)
    assert growth(newest([row(10_000, 500.0)])["unlabeled"]) == 0.0


def test_the_limit_names_corpus_and_bytes() -> None:
    check(newest([row(1000, 500.0), row(2000, 500.0 + LIMIT / 1001)]))
    with pytest.raises(GateError, match=r"train rows: a further row takes 100 bytes of memory, .* 64"):
        check(newest([row(1000, 500.0, "train"), row(2000, 500.1, "train")]))


def test_the_picture_shows_each_corpus_of_several_sizes() -> None:
    rows = [row(10_000, 500.0), row(1_000_000, 530.0), row(10_000, 510.0, "train")]
    assert picture(newest(rows)).count("<polyline") == 1
    drawn = picture(newest([*rows, row(20_000, 510.0, "train")]))
    ElementTree.fromstring(drawn)  # noqa: S314  # our own
    assert drawn.count("<polyline") == 2
    assert drawn.count("<circle") == 4
    assert all(f">{name} rows</text>" in drawn for name in ("train", "unlabeled"))


def test_titles_go_on_and_repeat_themselves(tmp_path: Path) -> None:
    """The same ones for each size, mostly different, of ten categories."""
    few, many = (list(islice(titles("unlabeled"), count)) for count in (50, 3000))
    assert many[:50] == few
    assert len({title for title, _ in many}) > 2700
    assert len({category for _, category in many}) == 10
    with (tmp_path / "titles.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(many)
    with (tmp_path / "titles.csv").open(newline="") as stream:
        assert [tuple(cells) for cells in csv.reader(stream)] == many
