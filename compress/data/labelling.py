"""From the label column of a task to what models learn: class indices, numbers, or grades in groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from compress.batch import Ints, Labels, codes_of
from compress.data.labels import label_names, one_sided, unseen_labels
from compress.data.numbers import check_grades, equal_numbers, group_notes, numbers, refuse_equal
from compress.data.table import Table
from compress.recipe import ClassificationTask, PairsTask, RankingTask, RegressionTask, Task

OUTPUT = ("score",)
"""Name of the one output of a model whose answer is a number."""
BINS = 10
"""Parts by size in which a number stands in like shares on both sides of a split."""


@dataclass(frozen=True)
class LabelColumns:
    """The labels of a run.

    names: of a model's outputs. of: split -> label of each row. notes: sentences that belong beside the figures.
    """

    names: tuple[str, ...]
    of: Mapping[str, Labels]
    notes: list[str] = field(default_factory=list)


class Labelling(Protocol):
    """One kind of task's way with labels."""

    def grouped(self, table: Table) -> Table:
        """The table with the groups that the task needs."""

    def strata(self, table: Table) -> Ints:
        """What a fractional split keeps in like shares on both sides, for each row."""

    def read(self, train: Table, others: Mapping[str, Table]) -> LabelColumns:
        """Labels of the training rows, under the name `train`, and of the other splits.

        Raises:
            DataError: a label that cannot be used, with its place, or labels from which nothing can be learned.
            RecipeError: labels that the task's section does not fit.
        """


@dataclass(frozen=True)
class NamedLabels:
    """Classification and pairs."""

    task: ClassificationTask | PairsTask

    def grouped(self, table: Table) -> Table:
        return table

    def strata(self, table: Table) -> Ints:
        return codes_of(table.labels or [])

    def read(self, train: Table, others: Mapping[str, Table]) -> LabelColumns:
        names = label_names(train, self.task)
        notes = unseen_labels(names, others, self.task) + one_sided(names, others, self.task)
        index = {name: at for at, name in enumerate(names)}
        of: dict[str, Labels] = {
            split: np.fromiter((index.get(label, -1) for label in table.labels or []), np.int64, len(table))
            for split, table in {"train": train, **others}.items()
        }
        return LabelColumns(names, of, notes)


@dataclass(frozen=True)
class NumberLabels:
    """Regression."""

    task: RegressionTask

    def grouped(self, table: Table) -> Table:
        return table

    def strata(self, table: Table) -> Ints:
        """The tenth of all numbers that each belongs to."""
        found = numbers(table)
        edges = np.quantile(found, np.linspace(0, 1, BINS + 1)[1:-1])
        return np.searchsorted(edges, found)

    def read(self, train: Table, others: Mapping[str, Table]) -> LabelColumns:
        of: dict[str, Labels] = {split: numbers(table) for split, table in {"train": train, **others}.items()}
        refuse_equal(train, of["train"], "number")
        notes = [
            note for split, rows in others.items() for note in equal_numbers(rows, of[split], split, self.task.metric)
        ]
        return LabelColumns(OUTPUT, of, notes)


@dataclass(frozen=True)
class Grades:
    """Ranking: numbers from 0, in groups. Without a group column, rows with an equal first text form a group."""

    task: RankingTask

    def grouped(self, table: Table) -> Table:
        return table if table.groups is not None else replace(table, groups=table.texts)

    def strata(self, table: Table) -> Ints:
        """Groups stay whole, and have no label of their own."""
        return np.zeros(len(table), np.int64)

    def read(self, train: Table, others: Mapping[str, Table]) -> LabelColumns:
        tables = {"train": train, **others}
        of: dict[str, Labels] = {}
        notes: list[str] = []
        for split, table in tables.items():
            of[split] = numbers(table)
            check_grades(table, of[split], split)
            notes += group_notes(table, of[split], split)
        return LabelColumns(OUTPUT, of, notes)


LABELLINGS: dict[str, Callable[[Any], Labelling]] = {
    "classification": NamedLabels,
    "pairs": NamedLabels,
    "ranking": Grades,
    "regression": NumberLabels,
}


def labelling_of(task: Task) -> Labelling:
    """A task's way with labels."""
    return LABELLINGS[task.kind](task)
