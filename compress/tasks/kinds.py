"""The kinds of task: what each makes of labels, outputs and measures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.artifacts import Standard
from compress.batch import Examples, Floats, Labels, Splits
from compress.decide import best_threshold, in_unit, softmax
from compress.recipe import ClassificationTask, PairsTask, RankingTask, RegressionTask, Task
from compress.tasks.kind import Scores, TaskKind, labels_of
from compress.tasks.label_metrics import evaluate, measures, positive_label, primary_metric
from compress.tasks.measures import measure_named
from compress.tasks.number_metrics import number_metrics
from compress.tasks.ranking_metrics import ranking_metrics


class LabelKind(TaskKind):
    """Classification and pairs: one of C labels; scores are probabilities."""

    def __init__(self, task: ClassificationTask | PairsTask, splits: Splits) -> None:
        self.name, self.labels = task.kind, splits.labels
        self.positive = positive_label(task, splits.labels)
        self.two_texts = splits.train.pairs is not None
        self.metric = measure_named(primary_metric(task, splits.labels))
        self.measured = measures(task, splits.labels)

    def scores(self, logits: Floats) -> Scores:
        return softmax(logits)

    def threshold(self, scores: Scores, rows: Examples) -> float | None:
        if self.positive is None or rows.labels is None:
            return None
        index = self.labels.index(self.positive)
        return best_threshold(scores[:, index], rows.labels == index)

    def measure(self, scores: Scores, rows: Examples, threshold: float | None = None) -> dict[str, float]:
        return evaluate(scores, labels_of(rows), self.labels, self.positive, threshold)

    def described(self, train: Examples) -> str:
        return f"{len(self.labels)} labels"


class NumberKind(TaskKind):
    """What ranking and regression share: the labels are numbers, the model has one output."""

    def __init__(self, task: RankingTask | RegressionTask, splits: Splits) -> None:
        self.name, self.labels = task.kind, splits.labels
        self.two_texts = splits.train.pairs is not None
        self.metric = measure_named(task.metric)


class RankingKind(NumberKind):
    """One score for each row, which puts the rows of a group in order; labels are grades."""

    grouped = True

    def __init__(self, task: RankingTask, splits: Splits) -> None:
        super().__init__(task, splits)
        self.cutoff = task.cutoff
        self.measured = (f"ndcg@{task.cutoff}", f"mrr@{task.cutoff}", "map", f"recall@{task.cutoff}")
        self.loss = task.loss

    def scores(self, logits: Floats) -> Scores:
        return logits

    def measure(self, scores: Scores, rows: Examples, threshold: float | None = None) -> dict[str, float]:
        if rows.groups is None:
            raise ValueError("the rows have no groups")
        return ranking_metrics(scores[:, 0], labels_of(rows), rows.groups, rows.ids, self.cutoff)

    def described(self, train: Examples) -> str:
        known = labels_of(train)
        return f"grades from {known.min():g} to {known.max():g} in {len(set(train.groups or [])):,} training groups"

    def targets(self, labels: Labels) -> npt.NDArray[np.float32]:
        """The grades."""
        return np.asarray(labels, np.float32)


class RegressionKind(NumberKind):
    """One number; scores are in the labels' unit, outputs and targets standardised on the training rows."""

    measured = ("rmse", "mae", "spearman")

    def __init__(self, task: RegressionTask, splits: Splits) -> None:
        super().__init__(task, splits)
        known = labels_of(splits.train)
        self.standard: Standard = Standard(mean=float(known.mean()), std=float(known.std()))

    def scores(self, logits: Floats) -> Scores:
        return in_unit(logits, self.standard.mean, self.standard.std)

    def measure(self, scores: Scores, rows: Examples, threshold: float | None = None) -> dict[str, float]:
        return number_metrics(scores[:, 0], labels_of(rows))

    def described(self, train: Examples) -> str:
        known = labels_of(train)
        return f"numbers from {known.min():g} to {known.max():g}, mean {known.mean():g}"

    def targets(self, labels: Labels) -> npt.NDArray[np.float32]:
        """(label − mean) / std."""
        return np.asarray((labels - self.standard.mean) / self.standard.std, np.float32)


KINDS: dict[str, Callable[[Any, Splits], TaskKind]] = {
    "classification": LabelKind,
    "pairs": LabelKind,
    "ranking": RankingKind,
    "regression": RegressionKind,
}


def task_kind(task: Task, splits: Splits) -> TaskKind:
    """The kind of a recipe's task on the run's data.

    Raises:
        RecipeError: the recipe's metric cannot be computed for these labels.
    """
    return KINDS[task.kind](task, splits)
