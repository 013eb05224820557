"""Measures of several models' answers as functions of how often each row is there, for the bootstrap.

A resample of N rows is told by how often it holds each row, and rows that all models answer alike are one row that is
there several times. So thousands of resamples of a set measure such as F1, AUC or Spearman's correlation are sums over
few numbers, where a library that is given the resampled rows (scipy.stats.bootstrap) computes each from all N.
Values are those of the measures in `compress.tasks`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.batch import Examples, Floats, Ints, Numbers
from compress.decide import decide
from compress.tasks.kind import TaskKind, labels_of
from compress.tasks.kinds import LabelKind, RankingKind
from compress.tasks.ranking_metrics import group_metrics


class Weighted(ABC):
    """One measure of M models on U distinct units: rows, or for ranking groups.

    counts: how often each unit is in the data, int64 [U].
    """

    counts: Ints

    @abstractmethod
    def values(self, weights: Numbers) -> Numbers:
        """The measure of each model, [M, B], NaN where it is not defined, for B ways to weigh the units, [B, U]."""

    @property
    def plain(self) -> Numbers:
        """The measure of each model on the data as they are, [M]."""
        return self.values(self.counts[None].astype(np.float64))[:, 0]


class Decisions(Weighted):
    """Measures of answered labels: accuracy, macro_f1, weighted_f1, and of one label precision, recall and f1.

    Args:
        answers: class that each model answers, int64 [M, N]. truth: [N]; both 0 … classes − 1.
        positive: class of precision, recall and f1.
    """

    def __init__(self, metric: str, answers: Ints, truth: Ints, classes: int, positive: int | None) -> None:
        distinct, self.counts = np.unique(np.vstack([truth, answers]), axis=1, return_counts=True)
        self.metric, self.positive = metric, positive
        truth, *answered = distinct
        hits = [_indicator(truth, classes, truth == said) for said in answered]
        self.models = list(zip(hits, (_indicator(said, classes) for said in answered), strict=True))
        self.truth = _indicator(truth, classes)

    def values(self, weights: Numbers) -> Numbers:
        there = weights @ self.truth
        return np.stack([self._of(weights @ hits, there, weights @ said) for hits, said in self.models])

    def _of(self, hits: Numbers, there: Numbers, said: Numbers) -> Numbers:
        """The measure, [B], from how often each class is rightly answered, there, and answered, [B, classes]."""
        rows = there.sum(1)
        if self.metric == "accuracy":
            return np.asarray(hits.sum(1) / rows)
        if self.metric == "precision":
            return _share(hits[:, self.positive], said[:, self.positive])
        if self.metric == "recall":
            return _share(hits[:, self.positive], there[:, self.positive])
        f1 = _share(2 * hits, there + said)
        if self.metric == "f1":
            return np.asarray(f1[:, self.positive])
        if self.metric == "weighted_f1":
            return np.asarray((f1 * there).sum(1) / rows)
        return np.asarray(f1.sum(1) / (there + said > 0).sum(1))


class AreaUnderCurve(Weighted):
    """AUC: the share of pairs of a positive and another row that the scores, [M, N], put in order; ties count half."""

    def __init__(self, scores: npt.NDArray[Any], positive: npt.NDArray[np.bool_]) -> None:
        self.counts = np.ones(len(positive), np.int64)
        self.positive = positive
        self.orders = [_Order(each) for each in scores]

    def values(self, weights: Numbers) -> Numbers:
        matches, others = weights * self.positive, weights * ~self.positive
        pairs = matches.sum(1) * others.sum(1)
        found = []
        for order in self.orders:
            here = order.sums(others)
            below = np.cumsum(here, axis=1) - here
            found.append((order.sums(matches) * (below + here / 2)).sum(1))
        return np.stack([_share(each, pairs, otherwise=np.nan) for each in found])


class RankCorrelation(Weighted):
    """Spearman's rank correlation of scores [M, N] and truth [N], ties at their mean rank; 0 where a side is equal."""

    def __init__(self, scores: npt.NDArray[Any], truth: npt.NDArray[Any]) -> None:
        self.counts = np.ones(len(truth), np.int64)
        self.orders, self.truth = [_Order(each) for each in scores], _Order(truth)

    def values(self, weights: Numbers) -> Numbers:
        right = self.truth.centred_ranks(weights)
        own = (weights * right**2).sum(1)
        found = []
        for order in self.orders:
            said = order.centred_ranks(weights)
            found.append(_share((weights * said * right).sum(1), np.sqrt((weights * said**2).sum(1) * own)))
        return np.stack(found)


class Means(Weighted):
    """A mean over units of numbers [M, U], or the root of a mean."""

    def __init__(self, numbers: npt.NDArray[Any], *, root: bool = False) -> None:
        self.counts = np.ones(numbers.shape[1], np.int64)
        self.numbers, self.root = numbers, root

    def values(self, weights: Numbers) -> Numbers:
        means = self.numbers @ weights.T / weights.sum(1)
        return np.asarray(np.sqrt(means) if self.root else means)


class _Order:
    """Rows by a number: which are equal, in ascending order."""

    def __init__(self, numbers: npt.NDArray[Any]) -> None:
        self.rows = np.argsort(numbers, kind="stable")
        ordered = numbers[self.rows]
        self.starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        self.place = np.empty(len(numbers), np.int64)
        self.place[self.rows] = np.repeat(np.arange(len(self.starts)), np.diff(np.append(self.starts, len(numbers))))

    def sums(self, weights: Numbers) -> Numbers:
        """Weights [B, N] added up over rows of equal number, [B, different numbers]."""
        return np.asarray(np.add.reduceat(weights[:, self.rows], self.starts, axis=1))

    def centred_ranks(self, weights: Numbers) -> Numbers:
        """Mean rank of each row, [B, N], less the mean of all ranks."""
        here = self.sums(weights)
        ranks = np.cumsum(here, axis=1) - here + (here + 1) / 2
        return np.asarray((ranks - (weights.sum(1, keepdims=True) + 1) / 2)[:, self.place])


def weighted_measure(
    kind: TaskKind, metric: str, logits: Sequence[Floats], thresholds: Sequence[float | None], rows: Examples
) -> Weighted | None:
    """A measure of a kind of task for several models.

    Args:
        metric: one of `kind.measured`.
        logits: of each model, float32 [N, C].
        thresholds: of each model, its decision threshold.
        rows: the N labelled rows.

    Returns:
        None where the rows cannot be measured: no group of a ranking has a relevant row.
    """
    truth = labels_of(rows)
    scores = [kind.scores(each) for each in logits]
    if isinstance(kind, LabelKind):
        return _of_labels(kind, metric, scores, thresholds, truth.astype(np.int64))
    numbers = np.stack([each[:, 0] for each in scores])
    if isinstance(kind, RankingKind):
        groups, ids = list(rows.groups or ()), list(rows.ids)
        if not (truth > 0).any():
            return None
        return Means(np.stack([group_metrics(each, truth, groups, ids, kind.cutoff)[metric] for each in numbers]))
    if metric == "spearman":
        return RankCorrelation(numbers, truth)
    return Means((numbers - truth) ** 2, root=True) if metric == "rmse" else Means(np.abs(numbers - truth))


def _of_labels(
    kind: LabelKind, metric: str, scores: Sequence[Any], thresholds: Sequence[float | None], labels: Ints
) -> Weighted:
    positive = None if kind.positive is None else kind.labels.index(kind.positive)
    if metric == "auc":
        return AreaUnderCurve(np.stack([each[:, positive] for each in scores]), labels == positive)
    answers = [decide(each, positive, threshold) for each, threshold in zip(scores, thresholds, strict=True)]
    # All labels that training never saw are one class, which nothing answers.
    truth = np.where(labels < 0, len(kind.labels), labels)
    return Decisions(metric, np.stack(answers), truth, len(kind.labels) + 1, positive)


def _indicator(classes: Ints, count: int, kept: npt.NDArray[np.bool_] | None = None) -> Any:
    """Sparse [U, count]: 1 at each unit's class, or nowhere in its row where it is not kept."""
    from scipy.sparse import csr_array

    units = np.arange(len(classes)) if kept is None else np.flatnonzero(kept)
    return csr_array((np.ones(len(units)), (units, classes[units])), shape=(len(classes), count))


def _share(part: Numbers, whole: Numbers, otherwise: float = 0.0) -> Numbers:
    """part ÷ whole, and `otherwise` where there is no whole."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(part), otherwise), where=whole > 0))
