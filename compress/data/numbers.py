"""Labels that are numbers: read, with the place of what is none, and checked for something to learn from."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from compress.batch import Ints, Labels, Numbers, codes_of
from compress.data.table import Table
from compress.errors import DataError

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def numbers(table: Table) -> Numbers:
    """The label of each row as a finite number.

    Raises:
        DataError: one that is none, with its place.
    """
    found = (_number(table, row, text) for row, text in enumerate(table.labels or []))
    return np.fromiter(found, np.float64, len(table))


def _number(table: Table, row: int, text: str) -> float:
    value = float(text) if NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        comma = "," in text and NUMBER.fullmatch(text.replace(",", ".", 1))
        raise DataError(
            f"{table.where(row)} has the label {text!r}, but the task's labels are finite "
            f"numbers: {'write a point for the comma' if comma else 'mend it or remove the row'}"
        )
    return value


def refuse_equal(train: Table, labels: Labels, what: str) -> None:
    """Refuse labels from which nothing can be learned.

    Raises:
        DataError: all are equal.
    """
    if (labels == labels[0]).all():
        raise DataError(
            f"all {len(train):,} training rows have the {what} {labels[0]:g} (first at {train.where(0)}), so there is "
            "nothing to learn: check data.train.columns.label"
        )


def equal_numbers(table: Table, labels: Labels, split: str, metric: str) -> list[str]:
    """What must be known of a split whose numbers are all equal.

    Raises:
        DataError: the metric tells nothing then.
    """
    if not (labels == labels[0]).all():
        return []
    found = f"all {len(table):,} {split} rows have the number {labels[0]:g} (first at {table.where(0)})"
    if metric == "spearman":
        raise DataError(
            f"{found}, whose order no model can follow, and task.metric is spearman: check data.{split}, or choose "
            "rmse or mae"
        )
    return [f"{found}: its figures say how near that one number is met, and spearman is 0"]


def check_grades(table: Table, grades: Labels, split: str) -> None:
    """Grades from 0, some of them above it, and some group with rows of different grades.

    Raises:
        DataError: a grade below 0, with its place, or groups without an order to learn or to measure.
    """
    below = np.flatnonzero(grades < 0)
    if len(below):
        row = int(below[0])
        raise DataError(
            f"{table.where(row)} has the grade {grades[row]:g}, but a grade is 0 (not relevant) or more; "
            f"{len(below):,} {split} rows are below 0: mend them or remove the rows"
        )
    if split == "train":
        refuse_equal(table, grades, "grade")
    elif not (grades > 0).any():
        raise DataError(f"no {split} row has a grade above 0, so no order of them can be measured: check data.{split}")
    _refuse_orderless(table, grades, split)


def _refuse_orderless(table: Table, grades: Labels, split: str) -> None:
    sizes, spreads = _groups(table.groups or [], grades)
    if not (spreads > 0).any():
        reason = "have one row each" if (sizes == 1).all() else "have rows of one grade each"
        name, so = ("training", "there is no order to learn") if split == "train" else (split, "every order is right")
        raise DataError(
            f"all {len(sizes):,} {name} groups {reason}, so {so}: name the column of the query "
            f"in data.{split}.columns.group, without which rows with an equal first text form a group"
        )


def group_notes(table: Table, grades: Labels, split: str) -> list[str]:
    """What must be known of groups that say little: of one row, and without a relevant one."""
    sizes, _ = _groups(table.groups or [], grades)
    relevant = np.bincount(codes_of(table.groups or []), grades > 0)
    alone, barren = int((sizes == 1).sum()), int((relevant == 0).sum())
    notes = []
    if alone and split == "train":
        notes.append(f"{alone:,} of {len(sizes):,} training groups have one row, from which no order is learned")
    elif alone:
        notes.append(
            f"{alone:,} of {len(sizes):,} {split} groups have one row, which any model puts in the right order"
        )
    if barren and split != "train":
        notes.append(
            f"{barren:,} of {len(sizes):,} {split} groups have no row with a grade above 0; the metrics leave them out"
        )
    return notes


def _groups(groups: Sequence[str], grades: Labels) -> tuple[Ints, Labels]:
    """Rows of each group, and the difference between its highest and lowest grade."""
    codes = codes_of(groups)
    sizes = np.bincount(codes)
    starts = np.cumsum(sizes) - sizes
    ordered = grades[np.argsort(codes, kind="stable")]
    return sizes, np.maximum.reduceat(ordered, starts) - np.minimum.reduceat(ordered, starts)
