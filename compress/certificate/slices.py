"""Parts of the test rows that are measured by themselves: by label, its frequency, length, and columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compress.batch import Examples, Ints, codes_of
from compress.tasks.kind import TaskKind, labels_of
from compress.tasks.kinds import LabelKind, RegressionKind

MOST_VALUES = 100
"""Values of a label or column that become slices, the most frequent ones."""
HEAD_SHARE = 0.5
"""Share of the training rows that the head labels, the most frequent ones, hold together at the least."""


@dataclass(frozen=True)
class Slice:
    """Some rows.

    by: label, frequency, length, or `column NAME`. value: what they have in common. rows: their numbers. by_truth:
    whether the label picked them, so that of measures of labels only recall says something of them.
    """

    by: str
    value: str
    rows: Ints
    by_truth: bool = False


def slices_of(kind: TaskKind, rows: Examples, lengths: Ints, frequencies: Ints | None, columns: Columns) -> list[Slice]:
    """All slices of the test rows, those without a row left out; groups of a ranking stay whole but in columns.

    Args:
        lengths: tokens of each row, [N].
        frequencies: training rows of each label, [C], for tasks that tell head from tail.
        columns: name -> value of each row.
    """
    found = _by_label(kind, rows)
    if frequencies is not None:
        found += _by_frequency(labels_of(rows).astype(np.int64), frequencies)
    found += _by_quarter("length", _of_groups(lengths, rows) if kind.grouped else lengths, "tokens")
    for name, values in columns.items():
        found += _by_value(f"column {name}", values)
    return found


Columns = Mapping[str, Sequence[str]]


def _by_label(kind: TaskKind, rows: Examples) -> list[Slice]:
    """Each label of a task with labels, quarters of a regression's numbers; a ranking's groups hold several grades."""
    if isinstance(kind, RegressionKind):
        return _by_quarter("label", labels_of(rows), "")
    if not isinstance(kind, LabelKind):
        return []
    # position -1, of labels that training never saw, is the last
    names = [*kind.labels, "(never seen in training)"]
    return _by_value("label", [names[label] for label in labels_of(rows).astype(np.int64)], by_truth=True)


def _by_frequency(labels: Ints, frequencies: Ints) -> list[Slice]:
    """Rows whose label is of the head, or of the tail: all others, and what training never saw."""
    order = np.argsort(-frequencies, kind="stable")
    before = np.cumsum(frequencies[order]) - frequencies[order]
    head = order[before < HEAD_SHARE * frequencies.sum()]
    is_head = np.isin(labels, head)
    both = (("head", len(head), is_head), ("tail", len(frequencies) - len(head), ~is_head))
    return [
        Slice("frequency", f"{name}, {count} of {len(frequencies)} labels", np.flatnonzero(mask), by_truth=True)
        for name, count, mask in both
        if mask.any()
    ]


def _by_quarter(by: str, numbers: npt.NDArray[np.floating] | Ints, unit: str) -> list[Slice]:
    """Rows between the quartiles of a number; equal ones are together, so that quarters may be uneven or missing."""
    place = np.searchsorted(np.quantile(numbers, (0.25, 0.5, 0.75)), numbers)
    found = []
    for quarter in np.unique(place):
        own = np.flatnonzero(place == quarter)
        low, high = numbers[own].min(), numbers[own].max()
        value = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        found.append(Slice(by, f"{value} {unit}".rstrip(), own))
    return found


def _by_value(by: str, values: Sequence[str], *, by_truth: bool = False) -> list[Slice]:
    """Rows of equal value, the most frequent values first."""
    codes, names = codes_of(values), sorted(set(values))
    counts = np.bincount(codes)
    order = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    return [Slice(by, names[code] or "(empty)", np.flatnonzero(codes == code), by_truth) for code in order]


def _of_groups(lengths: Ints, rows: Examples) -> npt.NDArray[np.float64]:
    """The mean length of each row's group, to a tenth."""
    codes = codes_of(rows.groups or ())
    return np.asarray(np.round((np.bincount(codes, lengths) / np.bincount(codes))[codes], 1))
