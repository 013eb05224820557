"""Readers of text formats: cells as they stand in the file, with the line they stand on.

csv and json of the standard library instead of the readers of pandas and pyarrow, because those turn "NA" to
nothing, dates to timestamps and `1` to `1.0`, pad short rows in silence, and lose the line numbers.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from compress.data.arrow import read_parquet
from compress.data.columns import Row, Want, positions
from compress.data.sources import DataFile, Format, listing, nearest
from compress.errors import DataError, RecipeError

LONGEST_FIELD = 1 << 27
"""Characters; Python's own limit of 131,072 is less than some product descriptions."""


@dataclass(frozen=True)
class Layout:
    """How to read a file. `key` is the source's place in the recipe."""

    format: Format
    header: bool
    quoting: str
    key: str
    delimiter: str = ","

    @property
    def by_line(self) -> bool:
        """True when rows are found by line, false when by row number."""
        return self.format != "parquet"


def read_file(file: DataFile, layout: Layout, wants: Sequence[Want]) -> Iterator[Row]:
    """The wanted cells of each row.

    Raises:
        DataError: whatever the file's bytes, rows or columns lack, with file and line.
        RecipeError: a column name for a file without names, or a position in one without positions.
    """
    with file.open() as stream:
        if layout.format == "parquet":
            yield from read_parquet(stream, file.name, wants)
        elif layout.format == "jsonl":
            yield from _json_lines(_lines(stream, file.name), file.name, wants)
        else:
            yield from _delimited(_lines(stream, file.name), file.name, layout, wants)


# ---------------------------------------------------------------- text


def _lines(stream: IO[bytes], name: str) -> Iterator[str]:
    """Lines, ends included, split at LF alone."""
    number = 0
    for number, raw in enumerate(stream, 1):
        line = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name}:{number} is not valid UTF-8 (0x{line[error.start]:02x} at byte {error.start + 1}): "
                "save the file as UTF-8"
            ) from error
    if number == 0:
        raise DataError(f"{name} is empty (0 bytes): it needs at least one row")


def _delimited(lines: Iterator[str], name: str, layout: Layout, wants: Sequence[Want]) -> Iterator[Row]:
    delimiter = "\t" if layout.format == "tsv" else layout.delimiter
    if layout.quoting == "none":
        rows: Iterator[tuple[int, list[str]]] = _split(lines, delimiter)
    else:
        rows = _quoted(lines, name, delimiter)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{name} is empty (blank lines only): it needs at least one row")
    names = [cell.strip() for cell in first[1]] if layout.header else None
    width = len(first[1])
    if names is not None and width == 1:
        _really_one_column(names[0], wants, name, layout)
    places = positions(wants, names, width, name)
    if not layout.header:
        yield first[0], _pick(first[1], places)
    basis = "header" if layout.header else f"first row, line {first[0]},"
    found = not layout.header
    for line, cells in rows:
        if len(cells) != width:
            raise DataError(
                f"{name}:{line} has {len(cells)} fields, but the {basis} has {width}: mend the row, or check "
                f"{layout.key}.format (now {layout.format}) and {layout.key}.quoting (now {layout.quoting})"
            )
        found = True
        yield line, _pick(cells, places)
    if not found:
        raise DataError(f"{name} has a header but no rows; if line 1 is data, set {layout.key}.header: false")


def _really_one_column(header: str, wants: Sequence[Want], name: str, layout: Layout) -> None:
    """A header in one piece, although something that separates stands in it: the delimiter is another one."""
    found = next((mark for mark in (";", "\t", "|", ",") if mark in header), None)
    if found is not None and not any(want.column in (header, 0) for want in wants):
        way = (
            f"{layout.key}.format: tsv"
            if found == "\t"
            else f'{layout.key}.format: csv and {layout.key}.delimiter: "{found}"'
        )
        raise DataError(f"{name} seems to be separated by {found!r}, for its header reads {header[:80]!r}: set {way}")


def _split(lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines, 1):
        content = line.rstrip("\r\n")
        if content:
            yield number, content.split(delimiter)


def _quoted(lines: Iterator[str], name: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(LONGEST_FIELD)
    # strict: otherwise a stray quote swallows the rest of the file without a word
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{name}:{start} cannot be read as quoted text ({error}); "
                "if quotes are plain characters there, set quoting: none"
            ) from error
        if cells:
            yield start, cells


def _pick(cells: Sequence[Any], positions: Sequence[int | None]) -> list[Any]:
    return [None if at is None else cells[at] for at in positions]


def _json_lines(lines: Iterator[str], name: str, wants: Sequence[Want]) -> Iterator[Row]:
    for want in wants:
        if isinstance(want.column, int):
            raise RecipeError(f"{want.key} is the position {want.column}, but JSON lines have names: give a name")
    seen: dict[str, None] = {}
    number = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        value = _json_object(line, f"{name}:{number}")
        seen.update(dict.fromkeys(value))
        cells = [value.get(str(want.column)) for want in wants]
        if None in cells:
            _has_keys([want for want in wants if not want.part], value, f"{name}:{number}")
        yield number, cells
    if not seen:
        raise DataError(f"{name} is empty (no JSON object in {number} lines): it needs at least one row")
    _has_keys(wants, seen, name)


def _has_keys(wants: Sequence[Want], keys: Iterable[str], where: str) -> None:
    names = list(keys)
    for want in wants:
        if want.column not in names and not want.optional:
            raise DataError(
                f"{where} has no column {want.column!r} ({want.key}); it has {listing(names)}"
                f"{nearest(str(want.column), names)}"
            )


def _json_object(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        hint = ", and JSON lines hold one object a line, not an array" if line.lstrip().startswith("[") else ""
        raise DataError(f"{where} is not valid JSON ({error}){hint}: mend the line") from error
    if not isinstance(value, dict):
        raise DataError(f"{where} is {line.strip()[:40]!r}, but JSON lines hold one object a line: mend the line")
    return value
