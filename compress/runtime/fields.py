"""From a row of named values to a request: which column holds a field, or which are joined into it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compress.errors import DataError
from compress.runtime.predictor import Request


def cell_text(value: Any) -> str:
    """A cell as text: stripped; null and NaN are empty; 1.0 is "1"; booleans as in JSON.

    Raises:
        ValueError: the cell is a list, an object or bytes, or has half a surrogate pair.
    """
    if isinstance(value, str):
        if not value.isascii():
            value.encode("utf-8")  # JSON escapes can smuggle in half a surrogate pair, which no file can hold
        return value.strip()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list | dict | bytes):
        raise ValueError(f"a {type(value).__name__}")
    return str(value)


def join_texts(parts: Iterable[str]) -> str:
    """Texts of several columns as one: those that are not empty, with a space between them."""
    return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Fields:
    """How rows become requests, where they name their columns otherwise than text, text_pair and id.

    named: field -> the column that holds it; these must be there. joined: field -> the columns that training joined
    into it, taken where a row has them all. pairs: text_pair must be there.
    remedy: what to do about a missing column; `{flag}` becomes the option that names it.
    """

    named: Mapping[str, str] = field(default_factory=dict)
    joined: Mapping[str, Sequence[str]] = field(default_factory=dict)
    pairs: bool = False
    remedy: str = "name one with --{flag}"

    def request(self, where: str, row: Mapping[str, Any]) -> Request:
        """The request in a row; `where` is its place for messages.

        Raises:
            DataError: a column is missing, or holds what cannot be read.
        """
        text = self._text_of("text", where, row, needed=True)
        pair = self._text_of("text_pair", where, row, needed=self.pairs or "text_pair" in self.named)
        return Request(text=text or "", text_pair=pair, id=self._identity(where, row))

    def _text_of(self, name: str, where: str, row: Mapping[str, Any], *, needed: bool) -> str | None:
        parts = () if name in self.named else self.joined.get(name, ())
        key = self.named.get(name, name)
        if not needed and key not in row and not any(part in row for part in parts):
            return None
        if parts and (all(part in row for part in parts) or key not in row or key in parts):
            return self._joined(name, parts, where, row)
        if key in row:
            return _text(where, key, row[key], needed=needed)
        if needed:
            raise self._missing(name, key, where, row)
        return None

    def _identity(self, where: str, row: Mapping[str, Any]) -> str | None:
        key = self.named.get("id", "id")
        if key not in row:
            if "id" in self.named:
                raise self._missing("id", key, where, row)
            return None
        value = row[key]
        if value is None:
            return None
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise _half_a_character(where, key, error) from error
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        raise DataError(f"{where} has {value!r} under {key!r}, a string or a whole number is expected")

    def _joined(self, name: str, parts: Sequence[str], where: str, row: Mapping[str, Any]) -> str:
        """The text that training would have made of the row's columns."""
        for part in parts:
            if part not in row:
                made = f"for {name}, made of {' and '.join(map(repr, parts))} as in training"
                mend = f"add it, empty where there is none; give the whole {name} under {name!r}; or {self._mend(name)}"
                raise DataError(f"{where} has no {part!r} ({made}), there are: {_listed(row)}; {mend}")
        text = join_texts(_cell(where, part, row[part]) for part in parts)
        if not text:
            raise DataError(f"{where} has an empty {' and '.join(map(repr, parts))}: give it some text or leave it out")
        return text

    def _missing(self, name: str, key: str, where: str, row: Mapping[str, Any]) -> DataError:
        return DataError(f"{where} has no {key!r} (for {name}), there are: {_listed(row)}; {self._mend(name)}")

    def _mend(self, name: str) -> str:
        return self.remedy.format(flag=name.replace("_", "-"))


def _cell(where: str, key: str, value: Any) -> str:
    try:
        return cell_text(value)
    except UnicodeEncodeError as error:
        raise _half_a_character(where, key, error) from error
    except ValueError as error:
        raise DataError(f"{where} has {error} under {key!r}, a text is expected") from error


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
        raise _half_a_character(where, key, error) from error
    return value.strip()  # as training reads its texts


def _half_a_character(where: str, key: str, error: UnicodeEncodeError) -> DataError:
    return DataError(f"{where} has half a character (a lone surrogate) in {key!r} at {error.start}")


def _listed(row: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, row)) or "none"
