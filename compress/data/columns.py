"""Which columns are wanted, and where they stand in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compress.data.sources import listing, nearest
from compress.errors import DataError, RecipeError
from compress.recipe import Column

Row = tuple[int, Sequence[Any]]
"""Line (text formats) or row number (parquet, hub), both from 1; then one cell for each wanted column."""


@dataclass(frozen=True)
class Want:
    """A column to read.

    key: its place in the recipe. optional: reads as None where it is absent. part: one of several joined
    columns, which single JSON rows may lack. privileged: for the teacher alone, so nothing else may read it.
    """

    key: str
    column: Column
    optional: bool = False
    part: bool = False
    privileged: bool = False


def positions(wants: Sequence[Want], names: Sequence[str] | None, width: int, name: str) -> list[int | None]:
    """Position of each wanted column, None for an optional one that is absent.

    Args:
        names: column names, or None where the file has none.
        width: number of columns.
        name: the file, for messages.

    Raises:
        DataError: a column is missing, or its name is not unique.
        RecipeError: a name is given for a file without names, or a privileged column is also another one.
    """
    found = [_position(want, names, width, name) for want in wants]
    shared = {place: want for place, want in zip(found, wants, strict=True) if not want.privileged}
    for place, want in zip(found, wants, strict=True):
        if want.privileged and place is not None and place in shared:
            raise RecipeError(
                f"{want.key} is {want.column!r}, the same column of {name} as {shared[place].key}: a privileged column "
                "is read by the teacher alone, so leave it out of one of the two"
            )
    return found


def _position(want: Want, names: Sequence[str] | None, width: int, name: str) -> int | None:
    column = want.column
    if isinstance(column, int):
        if 0 <= column < width:
            return column
        if want.optional:
            return None
        raise DataError(f"{name} has no column {column} ({want.key}): its {width} columns count from 0 to {width - 1}")
    if names is None:
        raise RecipeError(
            f"{want.key} is the name {column!r}, but header is false: give a position from 0 to {width - 1}"
        )
    if names.count(column) > 1:
        raise DataError(f"{name} has {names.count(column)} columns named {column!r} ({want.key}): use a position")
    if column in names:
        return names.index(column)
    if want.optional:
        return None
    raise DataError(f"{name} has no column {column!r} ({want.key}); it has {listing(names)}{nearest(column, names)}")
