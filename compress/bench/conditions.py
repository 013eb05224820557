"""`--fail-if 'p99_ms>5'`: conditions on bench rows that end a command with exit code 5."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from compress.bench.compare import FIGURES, INTERVALS
from compress.bench.results import BenchResult
from compress.errors import RecipeError

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
FORM = re.compile(r"\s*(\w+)\s*(>=|<=|>|<)\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*")
RATIO_ENDS = {f"{name}_ratio_{end}": name for name in FIGURES for end in ("low", "high")}
RATIOS = (*(f"{name}_ratio" for name in FIGURES), *RATIO_ENDS)
"""Fields that only compared rows have."""
CALLS = {
    "p99_early_stopping_ms",
    *chain(*INTERVALS.values()),
    *(end for end, of in RATIO_ENDS.items() if of in INTERVALS),
}
"""Fields that rows of few calls lack."""


@dataclass(frozen=True)
class Condition:
    """A condition that no row may meet."""

    text: str
    name: str
    sign: str
    value: float

    def met_by(self, row: Mapping[str, Any]) -> str | None:
        """How a row meets it, or None. A figure that is not there counts as met: it cannot be shown to be fine."""
        found = row.get(self.name)
        each = "" if row.get("processes", 1) == 1 else f"{row['processes']} processes of "
        rate = "" if row.get("offered_qps") is None else f" at {row['offered_qps']:.6g}/s"
        where = f"{row['artifact']} ({row['target']}, {row['scenario']}{rate}, {each}{row['threads']} thread(s))"
        if found is None:
            return f"{where}: {self.name} {_absent(self.name, row)}"
        if COMPARISONS[self.sign](found, self.value):
            return f"{where}: {self.name} is {found:.6g}"
        return None


def _absent(name: str, row: Mapping[str, Any]) -> str:
    """Why a row has no such figure."""
    if row["status"] == "ok" and name in CALLS:
        return "is not known, there are too few calls for it: --queries asks more"
    if row["status"] == "ok" and name in RATIO_ENDS:
        return "is not known: this interval takes a file with several rows of the measurement"
    return "was not measured"


def read_condition(text: str, *, compared: bool = False) -> Condition:
    """A condition from the command line: FIELD, one of > >= < <=, a number.

    Args:
        compared: the rows will be those of `--compare`, which alone have ratios.

    Raises:
        RecipeError: it has another form, or no row has such a number.
    """
    match = FORM.fullmatch(text)
    if match is None:
        raise RecipeError(f"--fail-if is {text!r}, but FIELD>NUMBER is expected (or >=, <, <=), such as 'p99_ms>5'")
    name, sign, number = match.groups()
    known = [*numeric_fields(), *(RATIOS if compared else ())]
    if name in RATIOS and not compared:
        raise RecipeError(f"--fail-if names {name!r}, which only compared rows have: give it with --compare A B")
    if name not in known:
        raise RecipeError(f"--fail-if names {name!r}, which is no figure of a row; known are {', '.join(known)}")
    try:
        return Condition(text, name, sign, float(number))
    except ValueError as error:
        raise RecipeError(f"--fail-if is {text!r}, but {number!r} is no number") from error


def met(rows: Sequence[Mapping[str, Any]], conditions: Sequence[Condition]) -> list[str]:
    """A sentence for each condition and each row that meets it."""
    return [
        f"{condition.text}: {how}"
        for condition in conditions
        for row in rows
        if (how := condition.met_by(row)) is not None
    ]


def numeric_fields() -> list[str]:
    """Fields of a row that hold a number."""
    return [
        name
        for name, field in BenchResult.model_fields.items()
        if field.annotation in {int, float, int | None, float | None}
    ]
