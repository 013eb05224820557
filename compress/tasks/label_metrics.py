"""How good answers are. All measures lie in 0..1, higher is better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.batch import Labels
from compress.decide import decide
from compress.errors import RecipeError
from compress.recipe import ClassificationTask, Metric, PairsTask

OF_POSITIVE: tuple[Metric, ...] = ("precision", "recall", "f1", "auc")
"""Measures that need two labels, one of them positive."""


def positive_label(task: ClassificationTask | PairsTask, labels: Sequence[str]) -> str | None:
    """The label that counts as a match: for pairs with exactly two labels, else None.

    Raises:
        RecipeError: `task.positive` is not one of the two labels.
    """
    if not isinstance(task, PairsTask) or len(labels) != 2:
        return None
    if task.positive not in labels:
        raise RecipeError(
            f"task.positive is {task.positive!r}, but the data's labels are {list(labels)}; name one of them"
        )
    return task.positive


ALWAYS: tuple[Metric, ...] = ("accuracy", "macro_f1", "weighted_f1")
"""Measures of every task."""


def measures(task: ClassificationTask | PairsTask, labels: Sequence[str]) -> tuple[Metric, ...]:
    """What `evaluate` gives for these labels (auc only where the rows hold both)."""
    return ALWAYS if positive_label(task, labels) is None else (*ALWAYS, *OF_POSITIVE)


def primary_metric(task: ClassificationTask | PairsTask, labels: Sequence[str]) -> Metric:
    """The metric that picks checkpoints and is reported first.

    Raises:
        RecipeError: the recipe's metric cannot be computed for these labels.
    """
    positive = positive_label(task, labels)
    if task.metric is None:
        return "f1" if positive is not None else "macro_f1"
    if positive is None and task.metric in OF_POSITIVE:
        raise RecipeError(
            f"task.metric is {task.metric!r}, which needs pairs with two labels, but this is {task.kind} "
            f"with {len(labels)} labels; choose accuracy, macro_f1 or weighted_f1"
        )
    return task.metric


def evaluate(
    probabilities: npt.NDArray[Any],
    labels: Labels,
    names: Sequence[str],
    positive: str | None = None,
    threshold: float | None = None,
) -> dict[str, float]:
    """Measures of probabilities [N, C] against labels int64 [N]; -1 (unseen in training) is always wrong.

    Always accuracy, macro_f1 (mean over the classes in the labels or in the answers; all unseen labels are
    one class) and weighted_f1. With two names and `positive` also precision, recall and f1 of that label, and
    auc where the labels hold both classes. `threshold`: least probability of `positive` that answers it.

    Raises:
        ValueError: the shapes do not fit, or `positive` is not among the names.
    """
    from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support, roc_auc_score

    if probabilities.shape != (len(labels), len(names)) or len(labels) == 0:
        raise ValueError(f"probabilities are {probabilities.shape}, not [{len(labels)} labels, {len(names)} classes]")
    index = names.index(positive) if positive is not None and len(names) == 2 else None
    answers = decide(probabilities, index, threshold)
    truth = np.where(labels < 0, len(names), labels)
    found = {
        "accuracy": accuracy_score(truth, answers),
        "macro_f1": f1_score(truth, answers, average="macro", zero_division=0),
        "weighted_f1": f1_score(truth, answers, average="weighted", zero_division=0),
    }
    if index is not None:
        is_positive = truth == index
        precision, recall, f1, _ = precision_recall_fscore_support(
            is_positive, answers == index, average="binary", zero_division=0
        )
        found |= {"precision": precision, "recall": recall, "f1": f1}
        if is_positive.any() and not is_positive.all():
            found["auc"] = roc_auc_score(is_positive, probabilities[:, index])
    return {name: float(value) for name, value in found.items()}
