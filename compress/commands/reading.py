"""Requests of a command: from a file or stdin, with the columns that its options name."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compress.commands.options import Format

if TYPE_CHECKING:
    from compress.runtime.predictor import Request


def requests_of(
    file: Path | None,
    format: Format | None,
    named: Mapping[str, str | None],
    *,
    joined: Mapping[str, Sequence[str]],
    pairs: bool = False,
) -> Iterator[Request]:
    """Requests of a file, or of stdin when it is absent or `-`.

    Args:
        named: field (text, text_pair, id) -> the column that an option names, or None.
        joined: field -> the columns that training joined into it.
        pairs: each must have a second text.
    """
    from compress.runtime.fields import Fields
    from compress.runtime.requests import read_requests

    fields = Fields(
        named={role: column for role, column in named.items() if column is not None}, joined=joined, pairs=pairs
    )
    return read_requests(
        sys.stdin.buffer if file is None or str(file) == "-" else file,
        format=None if format is None else format.value,
        fields=fields,
    )
