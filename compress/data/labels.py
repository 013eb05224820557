"""Label names: their order, and what validation and test have that training lacks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from compress.data.sources import listing
from compress.data.table import Table
from compress.errors import DataError, RecipeError
from compress.recipe import ClassificationTask, Metric, PairsTask
from compress.tasks.label_metrics import OF_POSITIVE, positive_label, primary_metric

INTEGER = re.compile(r"[+-]?[0-9]+")
SHOWN_LABELS = 10


def sorted_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Distinct labels in the order of their class indices: by number when all are integers, else by name."""
    names = sorted(set(labels))
    return tuple(sorted(names, key=int) if all(INTEGER.fullmatch(name) for name in names) else names)


def label_names(train: Table, task: ClassificationTask | PairsTask) -> tuple[str, ...]:
    """The task's labels: those of the training rows.

    Raises:
        DataError: there is only one.
        RecipeError: the positive label of a two-label task is not among them.
    """
    labels = sorted_labels(train.labels or [])
    if len(labels) < 2:
        raise DataError(
            f"all {len(train):,} training rows have the label {labels[0]!r} (first at {train.where(0)}), "
            "but a task needs two labels: check data.train.columns.label"
        )
    if isinstance(task, PairsTask) and len(labels) == 2 and task.positive not in labels:
        raise RecipeError(
            f"task.positive is {task.positive!r}, but the labels are {listing(labels)}: name the matching one"
        )
    return labels


def unseen_labels(
    labels: Sequence[str], tables: Mapping[str, Table], task: ClassificationTask | PairsTask
) -> list[str]:
    """A sentence for each split with labels that training never shows.

    Args:
        labels: the task's labels.
        tables: name -> split.

    Raises:
        DataError: there are such labels, and the recipe does not count them as wrong.
    """
    known = set(labels)
    notes = []
    for name, table in tables.items():
        rows = [row for row, label in enumerate(table.labels or []) if label not in known]
        if rows and task.unseen_labels == "error":
            raise DataError(_unseen(name, table, rows))
        if rows:
            names = sorted(set(table.labels or []) - known)
            notes.append(
                f"{len(rows):,} of {len(table):,} {name} rows have labels that training never shows "
                f"({listing(names)}); they count as answered wrongly"
            )
    return notes


def one_sided(labels: Sequence[str], tables: Mapping[str, Table], task: ClassificationTask | PairsTask) -> list[str]:
    """A sentence for each split whose rows are all of one label, or with a positive label all or none of that.

    Args:
        labels: the task's labels.
        tables: name -> split.

    Raises:
        DataError: the task's metric, or the threshold that validation chooses for it, has no meaning there.
    """
    positive, metric = positive_label(task, labels), primary_metric(task, labels)
    notes = []
    for name, table in tables.items():
        found = table.labels or []
        if positive is not None:
            said = _matches(name, found, positive, metric)
        else:
            said = f"all {len(found):,} {name} rows have the label {found[0]!r}" if len(set(found)) == 1 else None
        if said is not None:
            notes.append(f"{said}: figures on them say nothing of how well labels are told apart")
    return notes


def _matches(name: str, found: Sequence[str], positive: str, metric: Metric) -> str | None:
    """That all rows of a split are matches, or none; None where there are both."""
    matches = sum(label == positive for label in found)
    if 0 < matches < len(found):
        return None
    said = f"{'all' if matches else 'none'} of the {len(found):,} {name} rows have the label {positive!r}"
    unmeasured = metric in OF_POSITIVE and (not matches or metric == "auc")
    if unmeasured or (metric in OF_POSITIVE and name == "validation"):
        what = f"{metric} cannot be measured" if unmeasured else "no threshold can be chosen"
        raise DataError(f"{said}, which task.positive names, so {what} on them: give data.{name} rows of both labels")
    return said


def _unseen(name: str, table: Table, rows: Sequence[int]) -> str:
    labels = table.labels or []
    counts = Counter(labels[row] for row in rows)
    firsts = {labels[row]: row for row in reversed(rows)}
    shown = "; ".join(
        f"{label!r} ({count} {'row' if count == 1 else 'rows'}, first at {table.where(firsts[label])})"
        for label, count in counts.most_common(SHOWN_LABELS)
    )
    more = f"; and {len(counts) - SHOWN_LABELS} more" if len(counts) > SHOWN_LABELS else ""
    return (
        f"{len(rows):,} {name} rows have {len(counts)} labels that training never shows: {shown}{more}; "
        "add training rows for them, or set task.unseen_labels: wrong to count such rows as answered wrongly"
    )
