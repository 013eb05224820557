"""From the cells of a row to texts, label, id, group, weight, privileged texts and slices, or to what is wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np

from compress.data.columns import Row, Want
from compress.errors import DataError, RecipeError
from compress.recipe import Column, Columns, TableSource, Task
from compress.runtime.fields import cell_text, join_texts

Role = Literal["train", "validation", "test", "unlabeled"]


def _weight(value: Any) -> float:
    """A cell as a weight.

    Raises:
        ValueError: not a number, or not a positive one in 32 bits.
    """
    if isinstance(value, bool) or value is None:
        raise ValueError("not a number")
    number = float(value)
    with np.errstate(over="ignore", under="ignore"):
        small = float(np.float32(number))
    if not (0 < small < math.inf):
        raise ValueError("not above 0 and finite")
    return small


@dataclass(frozen=True)
class RowMaker:
    """Makes checked rows of the cells of the wanted columns, which stand in the order of the fields below.

    privileged, privileged_pairs: None where the run has none, empty where only this table names none. slices: columns
    that are kept for the certificate, empty where none are.
    """

    texts: tuple[Want, ...]
    pairs: tuple[Want, ...] = ()
    label: Want | None = None
    id: Want | None = None
    group: Want | None = None
    weight: Want | None = None
    privileged: tuple[Want, ...] | None = None
    privileged_pairs: tuple[Want, ...] | None = None
    slices: tuple[Want, ...] = ()

    @property
    def wants(self) -> list[Want]:
        """All columns to read."""
        single = (self.label, self.id, self.group, self.weight)
        named = (want for want in single if want is not None)
        private = [*(self.privileged or ()), *(self.privileged_pairs or ())]
        return [*self.texts, *self.pairs, *named, *private, *self.slices]

    @classmethod
    def for_source(cls, source: TableSource, train: TableSource, role: Role, task: Task, key: str) -> RowMaker:
        """Columns of a source in its role.

        id and group are optional where the columns are only inherited from `train`, but not the groups of a ranking;
        privileged ones so in unlabeled data.

        Raises:
            RecipeError: no column is named for the label or a second text, or a named one has no use.
        """
        inherited = source.columns is None and role != "train"
        columns = source.columns or train.columns or Columns()
        place = f"{'data.train' if inherited else key}.columns"
        pairs = has_second_text(task, train)
        _fits_task(columns, role, task, pairs, place)
        given = (train.columns or Columns()).privileged_columns
        _fits_privileged(columns, given, role, pairs, place)

        def privileged(name: str, side: str) -> tuple[Want, ...] | None:
            found, lenient = columns.privileged_columns.get(side, ()), inherited and role == "unlabeled"
            wants = tuple(Want(f"{place}.{name}", column, lenient, part=True, privileged=True) for column in found)
            return wants if side in given else None

        def single(name: str, column: Column | None, needed: bool = True) -> Want | None:
            lenient = inherited and name != "label" and not (task.grouped and name == "group")
            return Want(f"{place}.{name}", column, lenient) if needed and column is not None else None

        return cls(
            texts=_joined(columns.text, f"{place}.text"),
            pairs=_joined(columns.text_pair, f"{place}.text_pair") if pairs else (),
            label=single("label", columns.label, role != "unlabeled"),
            id=single("id", columns.id),
            group=single("group", columns.group, role != "unlabeled" or task.grouped),
            weight=single("weight", columns.weight, role == "train"),
            privileged=privileged("privileged", "text"),
            privileged_pairs=privileged("privileged_pair", "text_pair"),
        )

    def records(self, sources: Iterable[tuple[str, Iterator[Row]]], limit: int | None) -> Iterator[dict[str, Any]]:
        """Checked rows of all readers, each given with what stands before the line number in messages.

        Raises:
            DataError: an empty text, label, id or group, or a weight that is none, with its place.
        """
        every = (
            self._record(file, origin, line, cells)
            for file, (origin, reader) in enumerate(sources)
            for line, cells in reader
        )
        return islice(every, limit)

    def _record(self, file: int, origin: str, line: int, cells: Sequence[Any]) -> dict[str, Any]:
        where = f"{origin}{line}"
        middle = len(self.texts)
        end = middle + len(self.pairs)
        single = iter(cells[end:])
        return {
            "text": _full(self.texts, cells[:middle], where, "text"),
            "pair": _full(self.pairs, cells[middle:end], where, "second text") if self.pairs else None,
            "label": _named(self.label, single, where, "label"),
            "id": _named(self.id, single, where, "id"),
            "group": _named(self.group, single, where, "group"),
            "weight": None if self.weight is None else _weighed(self.weight, next(single), where),
            "privileged": _more(self.privileged, single, where),
            "privileged_pair": _more(self.privileged_pairs, single, where),
            "slices": _listed(self.slices, single, where),
            "file": file,
            "line": line,
        }


def has_second_text(task: Task, train: TableSource) -> bool:
    """Whether rows have two texts: as the kind of task says, or where either will do, as the training columns do."""
    given = train.columns is not None and _named_column(train.columns.text_pair)
    return task.second_text == "needed" or (task.second_text == "optional" and given)


def _named_column(column: Column | tuple[Column, ...] | None) -> bool:
    return column is not None and column not in ((), "")


def _fits_task(columns: Columns, role: Role, task: Task, pairs: bool, place: str) -> None:
    if pairs and not _named_column(columns.text_pair):
        asked = f"task.kind is {task.kind}" if task.second_text == "needed" else "data.train has two texts a row"
        raise RecipeError(f"{asked}, but {place}.text_pair is not given: name the column of the second text")
    if not pairs and columns.text_pair is not None:
        raise RecipeError(
            f"{place}.text_pair is given, but task.kind is classification, which reads one text: "
            "set task.kind: pairs, or list both columns in text to join them"
            if task.second_text == "none"
            else f"{place}.text_pair is given, but data.train.columns.text_pair is not: name it there, too"
        )
    if columns.text == ():
        raise RecipeError(f"{place}.text is an empty list: name at least one column")
    if columns.label is None and role != "unlabeled":
        raise RecipeError(f"{place}.label is null, but {role} rows need a label: name its column")
    if task.grouped and columns.weight is not None and role == "train":
        raise RecipeError(
            f"{place}.weight is given, but the rows of a query are compared with each other and have no weights of "
            "their own: leave it out"
        )


def _fits_privileged(
    columns: Columns, given: Mapping[str, Sequence[Column]], role: Role, pairs: bool, place: str
) -> None:
    """given: the privileged columns of the training rows, by the field that they come after."""
    for name, side in (("privileged", "text"), ("privileged_pair", "text_pair")):
        named = side in columns.privileged_columns
        if named and side == "text_pair" and not pairs:
            raise RecipeError(f"{place}.{name} comes after a second text, but rows have one text: use privileged")
        if named and side not in given:
            raise RecipeError(f"{place}.{name} is given, but data.train.columns.{name} is not: name it there, too")
        if side in given and not named and role != "unlabeled":
            raise RecipeError(
                f"{place}.{name} is not given, but data.train.columns.{name} is, and the teacher is measured on {role} "
                "rows with what it learned to read: name the column"
            )


def _joined(columns: Column | tuple[Column, ...] | None, key: str) -> tuple[Want, ...]:
    names = columns if isinstance(columns, tuple) else [] if columns is None else [columns]
    return tuple(Want(key, name, part=len(names) > 1) for name in names)


def _text(want: Want, cell: Any, where: str) -> str:
    try:
        return cell_text(cell)
    except ValueError as error:
        kind = "half a surrogate pair" if isinstance(error, UnicodeError) else str(error)
        raise DataError(f"{where} has {kind} in column {want.column!r} ({want.key}): make it plain text") from error


def _full(wants: Sequence[Want], cells: Sequence[Any], where: str, what: str) -> str:
    parts = [_text(want, cell, where) for want, cell in zip(wants, cells, strict=True)]
    text = join_texts(parts)
    if not text:
        columns = ", ".join(repr(want.column) for want in wants)
        raise DataError(f"{where} has an empty {what} (column {columns}, {wants[0].key}): fill it or remove the row")
    return text


def _more(wants: Sequence[Want] | None, single: Iterator[Any], where: str) -> str | None:
    """What only the teacher reads; it may be empty."""
    return None if wants is None else join_texts([_text(want, next(single), where) for want in wants])


def slice_wants(columns: Sequence[Column]) -> tuple[Want, ...]:
    """The columns of `data.slices`, which single JSON rows may lack."""
    return tuple(Want("data.slices", column, part=True) for column in columns)


def _listed(wants: Sequence[Want], single: Iterator[Any], where: str) -> str | None:
    """The texts of columns as a JSON list; they may be empty."""
    return json.dumps([_text(want, next(single), where) for want in wants]) if wants else None


def _named(want: Want | None, single: Iterator[Any], where: str, what: str) -> str | None:
    if want is None:
        return None
    text = _text(want, next(single), where)
    if not text and not want.optional:
        raise DataError(f"{where} has no {what} (column {want.column!r}, {want.key}): fill it or remove the row")
    return text or None


def _weighed(want: Want, cell: Any, where: str) -> float:
    try:
        return _weight(cell)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(
            f"{where} has the weight {cell!r} (column {want.column!r}, {want.key}), "
            "but a weight is a finite number above 0: mend it or remove the row"
        ) from error
