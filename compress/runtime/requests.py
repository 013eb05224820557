"""Requests from JSON lines or CSV, from a file or a stream, one at a time; errors name file and line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

from compress.errors import DataError
from compress.runtime.predictor import Request

Format = Literal["jsonl", "csv", "tsv"]
T = TypeVar("T")

ENDINGS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
}
RENAME = "rename one of them"
"""Remedy for a missing column where no option names it."""
FIELDS = ("text", "text_pair", "id")
LONGEST_FIELD = 1 << 27
"""Characters of a CSV field; Python's own limit of 131,072 is less than some product descriptions."""
PACKED = (b"\x1f\x8b", b"PK\x03\x04", b"PAR1")
"""First bytes of gzip, zip and Parquet."""
BOM = b"\xef\xbb\xbf"


def read_requests(
    source: Path | BinaryIO,
    *,
    format: Format | None = None,
    columns: Mapping[str, str] | None = None,
    pairs: bool = False,
    remedy: str = "name one with --{flag}",
) -> Iterator[Request]:
    """Read requests lazily, so that a stream is answered while it is still being written.

    Args:
        source: a file, or a binary stream such as `sys.stdin.buffer`.
        format: when absent, told by the file's ending, else by the first line: a bracket opens JSON lines.
        columns: field (text, text_pair, id) -> the key or column that holds it, where it is named otherwise.
        pairs: the model compares two texts, so text_pair must be there.
        remedy: what to do about a missing column; `{flag}` becomes the option that names it.

    Raises:
        DataError: the source cannot be read, holds no request, or a line of it cannot be used.
    """
    if isinstance(source, Path):
        format = format or ENDINGS.get(source.suffix.lower())
        yield from _read_path(source, format, columns, pairs, remedy)
    else:
        yield from _read_stream(source, _name(source), format, columns, pairs, remedy)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items; what came before an unreadable line is given out before the error."""
    batch: list[T] = []
    try:
        for item in items:
            batch.append(item)
            if len(batch) == size:
                yield batch
                batch = []
    except DataError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _read_path(
    path: Path, format: Format | None, columns: Mapping[str, str] | None, pairs: bool, remedy: str
) -> Iterator[Request]:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): give a file of JSON lines or CSV") from error
    with stream:
        yield from _read_stream(stream, str(path), format, columns, pairs, remedy)


def _read_stream(
    stream: BinaryIO,
    name: str,
    format: Format | None,
    columns: Mapping[str, str] | None,
    pairs: bool,
    remedy: str,
) -> Iterator[Request]:
    lines = _decoded(stream, name)
    first = next((line for line in lines if line[1].strip()), None)
    if first is None:
        raise DataError(f'{name} is empty: give JSON lines such as {{"text": "…"}}, or CSV with a header')
    lines = chain([first], lines)
    format = format or _sniff(first[1])
    rows = _json_rows(lines, name) if format == "jsonl" else _csv_rows(lines, name, "\t" if format == "tsv" else ",")
    keys = {field: (columns or {}).get(field, field) for field in FIELDS}
    asked = {"text", *(columns or {}), *(["text_pair"] if pairs else [])}
    empty = True
    for where, row in rows:
        empty = False
        yield _request(where, row, keys, asked, remedy)
    if empty:
        raise DataError(f"{name} has a header and no request below it")


def _decoded(stream: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, from 1; ends of lines are kept."""
    for number, line in enumerate(stream, 1):
        if number == 1 and line.startswith(PACKED):
            raise DataError(f"{name} is a packed or binary file: unpack it, requests are JSON lines, CSV or TSV")
        try:
            yield number, (line.removeprefix(BOM) if number == 1 else line).decode("utf-8")
        except UnicodeDecodeError as error:
            byte = line[error.start]
            raise DataError(
                f"{name}:{number} is not UTF-8: byte 0x{byte:02x} at position {error.start}; save it as UTF-8"
            ) from error


def _sniff(line: str) -> Format:
    if line.lstrip().startswith(("{", "[")):
        return "jsonl"
    return "tsv" if "\t" in line and "," not in line else "csv"


def _json_rows(lines: Iterable[tuple[int, str]], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in lines:
        if not line.strip():
            continue
        where = f"{name}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where} is not JSON ({error}): one object a line is expected") from error
        if not isinstance(row, dict):
            raise DataError(f'{where} is {line.strip()[:40]!r}, an object such as {{"text": "…"}} is expected')
        yield where, row


def _csv_rows(lines: Iterable[tuple[int, str]], name: str, delimiter: str) -> Iterator[tuple[str, dict[str, Any]]]:
    position = 0

    def text_lines() -> Iterator[str]:
        nonlocal position
        for number, line in lines:
            position = number
            yield line

    csv.field_size_limit(LONGEST_FIELD)
    # Tab-separated product data is plain: a quote in it is an inch.
    if delimiter == "\t":
        reader = csv.reader(text_lines(), delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)
    else:
        reader = csv.reader(text_lines(), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        start = position + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{name}:{start} is not CSV ({error}): check its quotes") from error
        if row is None:
            return
        if not row:
            continue
        if header is None:
            header = _header(row, name)
        elif len(row) != len(header):
            raise DataError(f"{name}:{start} has {len(row)} fields, the header has {len(header)}: check its quotes")
        else:
            yield f"{name}:{start}", dict(zip(header, row, strict=True))


def _header(row: list[str], name: str) -> list[str]:
    header = [column.strip() for column in row]
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise DataError(f"{name} has the column {twice[0]!r} twice: rename one")
    return header


def _request(where: str, row: Mapping[str, Any], keys: Mapping[str, str], asked: set[str], remedy: str) -> Request:
    values: dict[str, str | None] = {}
    for field in FIELDS:
        key = keys[field]
        if key not in row:
            if field in asked:
                there = ", ".join(repr(column) for column in row) or "none"
                mend = remedy.format(flag=_flag(field))
                raise DataError(f"{where} has no {key!r} (for {field}), there are: {there}; {mend}")
            values[field] = None
        elif field == "id":
            values[field] = _identity(where, key, row[key])
        else:
            values[field] = _text(where, key, row[key], needed=field in asked)
    return Request(text=values["text"] or "", text_pair=values["text_pair"], id=values["id"])


def _text(where: str, key: str, value: Any, *, needed: bool) -> str | None:
    if value is None and not needed:
        return None
    if not isinstance(value, str):
        raise DataError(f"{where} has {value!r} under {key!r}, a text is expected")
    if not value.strip():
        if needed:
            raise DataError(f"{where} has an empty {key!r}: give it some text or leave the line out")
        return None
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where} has half a character (a lone surrogate) in {key!r} at {error.start}") from error
    return value.strip()  # as training reads its texts


def _identity(where: str, key: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise DataError(f"{where} has {value!r} under {key!r}, a string or a whole number is expected")


def _flag(field: str) -> str:
    return field.replace("_", "-")


def _name(stream: BinaryIO) -> str:
    name = getattr(stream, "name", "stdin")
    return name.strip("<>") if isinstance(name, str) else "stdin"
