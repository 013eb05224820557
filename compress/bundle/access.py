"""A bundle must not read what only the teacher was allowed to: looked at in the finished file, not promised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from compress.bundle.verify import read_golden
from compress.errors import RecipeError
from compress.recipe import Column
from compress.recipe.data import REQUEST_FIELDS
from compress.runtime.bundle import open_bundle
from compress.runtime.fields import Fields
from compress.runtime.predictor import Request

PROBE = "what only the teacher may read"


def check_access(path: Path, privileged: Mapping[str, Sequence[Column]]) -> None:
    """Open a bundle as a device does and ask its golden requests twice, as rows without and with privileged columns.

    Its graph takes nothing but tokens of a request's texts: no model with other inputs is opened.

    Args:
        path: the bundle.
        privileged: field (text, text_pair) -> columns that the teacher alone read after it. Requests have no columns
            that are positions.

    Raises:
        RecipeError: a privileged column is one that the bundle reads, or changes an answer.
    """
    names = [column for joined in privileged.values() for column in joined if isinstance(column, str)]
    if not names:
        return
    bundle = open_bundle(path)
    columns = bundle.manifest.columns
    read = {*REQUEST_FIELDS, *(name for joined in columns.values() for name in joined)}
    if shared := sorted(read.intersection(names)):
        raise RecipeError(
            f"{shared[0]!r} is a privileged column, which the teacher alone may read, but the bundle reads "
            f"{', '.join(sorted(read))} from requests: rename it"
        )
    predictor = bundle.predictor()
    fields = Fields(joined=columns, pairs=bundle.manifest.spec.two_texts)
    plain = [_row(request, columns) for request in read_golden(bundle)[0]]
    filled = [row | dict.fromkeys(names, PROBE) for row in plain]
    before, after = (
        predictor.answer([fields.request("a golden request", row) for row in rows], batch_size=1)
        for rows in (plain, filled)
    )
    if before != after:
        raise RecipeError(
            f"the bundle's answers change with the privileged columns {', '.join(map(repr, names))}, which the teacher "
            "alone may read: name other columns in data.train.columns"
        )


def _row(request: Request, columns: Mapping[str, Sequence[str]]) -> dict[str, str | None]:
    """A request as a row of the training data: each text in the first of the columns that were joined into it."""
    row: dict[str, str | None] = {"id": request.id}
    for name, text in (("text", request.text), ("text_pair", request.text_pair)):
        first, *others = columns.get(name, (name,))
        if text is not None:
            row |= {first: text} | dict.fromkeys(others, "")
    return row
