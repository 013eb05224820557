"""What must be said where the teacher reads more than the student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compress.batch import Examples
from compress.data.sources import listing
from compress.recipe import Column

SIDES = {"text": "the text", "text_pair": "the second text"}


def privileged_notes(columns: Mapping[str, Sequence[Column]], splits: Mapping[str, Examples]) -> list[str]:
    """Which columns the teacher alone reads, and how many rows have nothing in them.

    Args:
        columns: field (text, text_pair) -> the privileged columns of the training rows.
        splits: name -> rows.
    """
    sides = " and ".join(f"{listing(list(map(str, names)))} after {SIDES[side]}" for side, names in columns.items())
    notes = [
        f"the teacher reads privileged columns, which the student never sees: {sides}; the teacher's quality and "
        "latency are measured with them"
    ]
    empty = {name: _empty(rows) for name, rows in splits.items()}
    found = [f"{count:,} of {len(splits[name]):,} {name} rows" for name, count in empty.items() if count]
    if found:
        notes.append(
            f"the privileged columns hold nothing in {', '.join(found)}: there the teacher reads the text alone"
        )
    return notes


def _empty(rows: Examples) -> int:
    """Rows of which the teacher reads no more than the student."""
    sides = [side for side in (rows.privileged, rows.privileged_pairs) if side is not None]
    return sum(not any(texts) for texts in zip(*sides, strict=True))
