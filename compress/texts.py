"""Columns of texts that need not stand in memory: read when they are asked for, a piece at a time.

To whoever reads them they are sequences of strings like any other; a slice is a list.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.integer[Any]]
T = TypeVar("T")

ROWS_A_PIECE = 4096
"""Rows that are in memory together while a column is gone through."""


class Texts(Sequence[str], ABC):
    """A column of texts. A subclass says how many there are, and reads some of them."""

    @abstractmethod
    def __len__(self) -> int:
        """How many rows."""

    @abstractmethod
    def read(self, rows: Rows) -> list[str]:
        """The texts of some rows, in their order; rows from 0."""

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> list[str]: ...

    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return self.read(np.arange(*at.indices(len(self))))
        row = operator.index(at)
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self.read(np.array([row % len(self)]))[0]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), ROWS_A_PIECE):
            yield from self[start : start + ROWS_A_PIECE]


class Picked(Texts):
    """Some rows of another column, in an order of their own."""

    def __init__(self, column: Sequence[str], rows: Rows) -> None:
        self.column, self.rows = column, rows

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, rows: Rows) -> list[str]:
        return read(self.column, self.rows[rows])


class Joined(Texts):
    """Columns one after the other."""

    def __init__(self, *columns: Sequence[str]) -> None:
        self.columns = columns
        self.starts = np.cumsum([0, *(len(column) for column in columns)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read(self, rows: Rows) -> list[str]:
        return read_parts(self.starts, rows, lambda part, own: read(self.columns[part], own))


class Extended(Texts):
    """Each text of one column with that of another after it, and a space between; alone where the other is empty."""

    def __init__(self, column: Sequence[str], more: Sequence[str]) -> None:
        self.column, self.more = column, more

    def __len__(self) -> int:
        return len(self.column)

    def read(self, rows: Rows) -> list[str]:
        both = zip(read(self.column, rows), read(self.more, rows), strict=True)
        return [f"{text} {extra}" if extra else text for text, extra in both]


class Numbered(Texts):
    """Names made of a prefix and the row's number, from `first` on."""

    def __init__(self, prefix: str, count: int, first: int = 0) -> None:
        self.prefix, self.rows, self.first = prefix, count, first

    def __len__(self) -> int:
        return self.rows

    def read(self, rows: Rows) -> list[str]:
        return [f"{self.prefix}{self.first + row}" for row in rows.tolist()]


def read(column: Sequence[str], rows: Rows) -> list[str]:
    """The texts of some rows of any column, in their order."""
    if isinstance(column, Texts):
        return column.read(rows)
    return [column[row] for row in rows.tolist()]


def read_parts(starts: Rows, rows: Rows, take: Callable[[int, Rows], list[T]]) -> list[T]:
    """Rows of a column that stands in parts, each run of rows of one part at once.

    Args:
        starts: first row of each part, and the number of all rows.
        take: part and rows in it -> what stands there.
    """
    if not len(rows):
        return []
    part = np.searchsorted(starts, rows, side="right") - 1
    runs = np.split(rows, np.flatnonzero(np.diff(part)) + 1)
    firsts = part[np.cumsum([0, *(len(run) for run in runs[:-1])])]
    found: list[T] = []
    for number, run in zip(firsts.tolist(), runs, strict=True):
        found += take(number, run - starts[number])
    return found


def row_numbers(rows: Sequence[int] | Rows, count: int) -> Rows:
    """Numbers of rows of a column of `count` in as few bytes as hold them; several columns share the array."""
    return np.asarray(rows).astype(np.min_scalar_type(max(count - 1, 0)))
