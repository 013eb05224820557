"""Rows whose texts stand in two splits: they make figures look better than they are.

Texts are compared by 16 bytes of a hash, so that what is compared need not stand in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from compress.batch import Ints
from compress.data.table import Table
from compress.texts import ROWS_A_PIECE

BYTES = 16
Digests = npt.NDArray[np.bytes_]


class Keyed(Protocol):
    """Rows with a text and perhaps a second one."""

    @property
    def texts(self) -> Sequence[str]:
        """First texts."""

    @property
    def pairs(self) -> Sequence[str] | None:
        """Second texts."""


class Known:
    """The texts (and second texts) of some rows, in 16 bytes a row."""

    def __init__(self, *splits: Keyed) -> None:
        found = [piece for rows in splits for piece in _digests(rows)]
        self._sorted: Digests = np.sort(np.concatenate([_array([]), *found]))

    def __contains__(self, key: tuple[str, str | None]) -> bool:
        return bool(self._has(_array([_digest(key[0], key[1] or "")]))[0])

    def rows(self, table: Keyed) -> Ints:
        """Rows of a table, ascending, whose texts are known."""
        found = [self._has(piece) for piece in _digests(table)]
        return np.flatnonzero(np.concatenate([np.zeros(0, bool), *found]))

    def _has(self, piece: Digests) -> npt.NDArray[np.bool_]:
        places = np.searchsorted(self._sorted, piece)
        found = places < len(self._sorted)
        found[found] = self._sorted[places[found]] == piece[found]
        return found


def overlapping(table: Table, other: Table) -> Ints:
    """Rows of `table`, ascending, whose text (and second text) also stands in `other`."""
    return Known(other).rows(table)


def without_overlap(table: Table, other: Table) -> tuple[Table, int]:
    """`table` without the rows whose texts also stand in `other`, and how many those were."""
    found = overlapping(table, other)
    if not len(found):
        return table, 0
    return table.take(np.setdiff1d(np.arange(len(table)), found)), len(found)


def _digests(rows: Keyed) -> Iterator[Digests]:
    for start in range(0, len(rows.texts), ROWS_A_PIECE):
        firsts = rows.texts[start : start + ROWS_A_PIECE]
        seconds = [""] * len(firsts) if rows.pairs is None else rows.pairs[start : start + ROWS_A_PIECE]
        yield _array([_digest(first, second) for first, second in zip(firsts, seconds, strict=True)])


def _digest(first: str, second: str) -> bytes:
    return hashlib.blake2b(f"{len(first)} {first}{second}".encode(), digest_size=BYTES).digest()


def _array(digests: list[bytes]) -> Digests:
    return np.array(digests, f"S{BYTES}")
