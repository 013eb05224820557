"""Columns of texts: what lists of strings would give, whatever stands behind them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pytest

from compress.data.arrow import Mapped
from compress.texts import ROWS_A_PIECE, Joined, Numbered, Picked, row_numbers

ROWS = ROWS_A_PIECE * 2 + 7
GIVEN = [f"título {number} {'x' * (number % 40)}" for number in range(ROWS)]


def mapped(folder: Path) -> Mapped:
    """The texts in a file, with names for every third row."""
    schema = pyarrow.schema([("text", pyarrow.string()), ("id", pyarrow.string()), ("line", pyarrow.int64())])
    records = (
        {"text": text, "id": None if number % 3 else f"n{number}", "line": number} for number, text in enumerate(GIVEN)
    )
    return Mapped.written(records, schema, folder / "cache")


def columns(folder: Path) -> dict[str, tuple[Sequence[str], list[str]]]:
    """Each kind of column, with the list that it stands for."""
    text = mapped(folder).texts("text")
    assert text is not None
    order = np.random.default_rng(0).permutation(ROWS)[: ROWS - 100]
    names = [f"row-{7 + number}" if number % 3 else f"n{number}" for number in range(ROWS)]
    return {
        "stored": (text, GIVEN),
        "named": (mapped(folder).names("id", "row-", 7), names),
        "picked": (Picked(text, row_numbers(order, ROWS)), [GIVEN[row] for row in order]),
        "picked list": (Picked(GIVEN, row_numbers(order, ROWS)), [GIVEN[row] for row in order]),
        "joined": (Joined([], text, ["between"], [], Numbered("n", 3, 5)), [*GIVEN, "between", "n5", "n6", "n7"]),
        "empty": (Joined([], Picked(text, row_numbers([], ROWS))), []),
    }


@pytest.mark.parametrize("kind", ["stored", "named", "picked", "picked list", "joined", "empty"])
def test_a_column_reads_like_a_list(kind: str, tmp_path: Path) -> None:
    """Iterated, by row from both ends, by any slice, searched; and nothing is left in the folder."""
    column, wanted = columns(tmp_path)[kind]
    assert len(column) == len(wanted)
    assert bool(column) == bool(wanted)
    assert list(column) == wanted
    for cut in (slice(None), slice(3, 11), slice(-5, None), slice(None, None, 997), slice(9, 2, -3)):
        assert column[cut] == wanted[cut]
    for row in {0, 1, len(wanted) // 2, len(wanted) - 1, -1} if wanted else ():
        assert column[row] == wanted[row]
    assert "nothing" not in column
    for row in (len(wanted), -len(wanted) - 1):
        with pytest.raises(IndexError):
            column[row]
    assert list((tmp_path / "cache").iterdir()) == []


def test_numbers_and_missing_columns(tmp_path: Path) -> None:
    """Numbers come whole; a column that some row lacks is none."""
    rows = mapped(tmp_path)
    lines = rows.numbers("line", np.float32)
    assert lines is not None
    assert (lines.dtype, lines.tolist()) == (np.float32, list(range(ROWS)))
    assert rows.texts("id") is None


@pytest.mark.parametrize(("count", "size"), [(0, 1), (256, 1), (257, 2), (70_000, 4)])
def test_row_numbers_take_as_few_bytes_as_hold_them(count: int, size: int) -> None:
    found = row_numbers(range(max(count - 3, 0), count), count)
    assert found.itemsize == size
    assert found.tolist() == list(range(max(count - 3, 0), count))
