"""Rows whose texts stand in two splits: they make figures look better than they are."""

from __future__ import annotations

import numpy as np

from compress.batch import Ints
from compress.data.table import Table


def overlapping(table: Table, other: Table) -> Ints:
    """Rows of `table`, ascending, whose text (and second text) also stands in `other`."""
    known = set(_keys(other))
    return np.array([row for row, key in enumerate(_keys(table)) if key in known], np.int64)


def without_overlap(table: Table, other: Table) -> tuple[Table, int]:
    """`table` without the rows whose texts also stand in `other`, and how many those were."""
    found = overlapping(table, other)
    return table.take(np.setdiff1d(np.arange(len(table)), found)), len(found)


def _keys(table: Table) -> list[tuple[str, str]]:
    pairs = table.pairs if table.pairs is not None else [""] * len(table)
    return list(zip(table.texts, pairs, strict=True))
