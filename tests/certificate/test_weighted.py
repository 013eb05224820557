"""Weighted measures against the measures of the tasks, scikit-learn and SciPy; intervals that cover."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score, roc_auc_score

from compress.batch import Examples, Splits
from compress.certificate.interval import interval, resampled
from compress.certificate.weighted import AreaUnderCurve, Decisions, Means, RankCorrelation, weighted_measure
from compress.recipe import ClassificationTask, PairsTask, RankingTask, RegressionTask
from compress.tasks.kind import TaskKind
from compress.tasks.kinds import task_kind

ROWS = 60
METRICS = {
    "classification": ("accuracy", "macro_f1", "weighted_f1"),
    "pairs": ("accuracy", "macro_f1", "weighted_f1", "precision", "recall", "f1", "auc"),
    "ranking": ("ndcg@3", "mrr@3", "map", "recall@3"),
    "regression": ("rmse", "mae", "spearman"),
}
TASKS = {
    "classification": ClassificationTask(kind="classification"),
    "pairs": PairsTask(kind="pairs"),
    "ranking": RankingTask(kind="ranking", metric="ndcg@3"),
    "regression": RegressionTask(kind="regression"),
}
LABELS = {"classification": ("a", "b", "c", "d"), "pairs": ("0", "1")}


def rows_of(task: str, labels: np.ndarray) -> Examples:
    """Rows with labels; every five are a group."""
    count = len(labels)
    texts = [f"text {row}" for row in range(count)]
    groups = [f"g{row // 5}" for row in range(count)] if task == "ranking" else None
    return Examples(
        [str(row) for row in range(count)], texts, None if task == "classification" else texts, labels, groups
    )


def drawn(task: str, seed: int = 0) -> tuple[TaskKind, Examples, list[np.ndarray]]:
    """A kind of task, labelled rows, and the logits of two models with many ties."""
    rng = np.random.default_rng(seed)
    names = LABELS.get(task, ("score",))
    if task in LABELS:
        # a label that training never saw is wrong whatever is answered
        labels: np.ndarray = rng.integers(-1 if task == "classification" else 0, len(names), ROWS)
    else:
        labels = rng.integers(0, 3, ROWS).astype(np.float64)
    rows = rows_of(task, labels)
    known = rows_of(task, np.abs(labels))
    splits = Splits(known, rows, rows, None, names, "")
    logits = [rng.normal(size=(ROWS, len(names))).round(1).astype(np.float32) for _ in range(2)]
    return task_kind(TASKS[task], splits), rows, logits


@pytest.mark.parametrize(("task", "metric"), [(task, metric) for task, names in METRICS.items() for metric in names])
def test_the_value_on_all_rows_is_that_of_the_task(task: str, metric: str) -> None:
    kind, rows, logits = drawn(task)
    thresholds = [0.3, 0.6] if task == "pairs" else [None, None]
    found = weighted_measure(kind, metric, logits, thresholds, rows)
    assert found is not None
    for value, each, threshold in zip(found.plain, logits, thresholds, strict=True):
        assert value == pytest.approx(kind.measure(kind.scores(each), rows, threshold)[metric], abs=1e-12)


@pytest.mark.parametrize(
    ("task", "metric"), [("pairs", "auc"), ("regression", "rmse"), ("regression", "mae"), ("regression", "spearman")]
)
def test_weights_are_as_good_as_repeated_rows(task: str, metric: str) -> None:
    """A row with weight 3 counts as three rows, one with 0 as none."""
    kind, rows, logits = drawn(task, seed=1)
    times = np.random.default_rng(2).integers(0, 4, ROWS)
    again = np.repeat(np.arange(ROWS), times)
    found = weighted_measure(kind, metric, logits, [None, None], rows)
    assert found is not None
    expected = [kind.measure(kind.scores(each[again]), rows.take(again))[metric] for each in logits]
    assert found.values(times[None].astype(float))[:, 0] == pytest.approx(expected, abs=1e-12)


def test_equal_rows_are_one_unit_and_resamples_are_scikit_learns() -> None:
    """Each weighing of the distinct rows is the measure of the rows that it stands for."""
    rng = np.random.default_rng(3)
    truth, said = rng.integers(0, 3, 200), rng.integers(0, 3, (2, 200))
    found = Decisions("macro_f1", said, truth, 4, None)
    assert len(found.counts) <= 27
    distinct = np.unique(np.vstack([truth, said]), axis=1)
    for weights in rng.integers(0, 3, (5, len(found.counts))):
        there, *answers = np.repeat(distinct, weights, axis=1)
        expected = [f1_score(there, each, average="macro", zero_division=0) for each in answers]
        assert found.values(weights[None].astype(float))[:, 0] == pytest.approx(expected)


def test_auc_and_rank_correlation_by_hand() -> None:
    scores, positive = np.array([[0.1, 0.4, 0.4, 0.8]]), np.array([False, True, False, True])
    area = AreaUnderCurve(scores, positive)
    # pairs: (0.4, 0.1) 1, (0.4, 0.4) ½, (0.8, 0.1) 1, (0.8, 0.4) 1
    assert area.plain == pytest.approx([3.5 / 4])
    assert area.plain == pytest.approx([roc_auc_score(positive, scores[0])])
    assert np.isnan(area.values(np.array([[1.0, 0.0, 2.0, 0.0]]))).all()
    order = RankCorrelation(np.array([[1.0, 2.0, 2.0, 5.0]]), np.array([3.0, 1.0, 4.0, 9.0]))
    assert order.plain == pytest.approx([stats.spearmanr([1, 2, 2, 5], [3, 1, 4, 9]).statistic])
    assert order.values(np.array([[0.0, 1.0, 1.0, 0.0]])) == pytest.approx(np.zeros((1, 1)))


def test_a_ranking_without_a_relevant_row_has_no_measure() -> None:
    kind, rows, logits = drawn("ranking")
    assert weighted_measure(kind, "ndcg@3", logits, [], rows_of("ranking", np.zeros(ROWS))) is None
    assert weighted_measure(kind, "ndcg@3", logits, [], rows) is not None


# ---------------------------------------------------------------- intervals


def test_the_interval_is_scipys_percentile_bootstrap() -> None:
    """Of a difference of means, where both are quick: they differ by the luck of the draw alone."""
    rng = np.random.default_rng(4)
    before = rng.normal(size=80)
    after = before + rng.normal(0.3, 0.5, 80)
    draws = resampled(Means(np.stack([before, after])), seed=5)
    ours = interval(draws[1] - draws[0])
    theirs = stats.bootstrap(
        (before, after), lambda a, b, axis: (b - a).mean(axis), paired=True, method="percentile", rng=6
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_the_interval_covers_the_true_difference_about_as_often_as_it_says() -> None:
    """Models that are right on 80% and 70% of all rows, measured on 200 rows, 200 times: 95% ± 3 standard errors."""
    rng = np.random.default_rng(7)
    covered = 0
    for trial in range(200):
        truth = np.zeros(200, np.int64)
        said = (rng.random((2, 200)) > [[0.8], [0.7]]).astype(np.int64)
        draws = resampled(Decisions("accuracy", said, truth, 2, None), seed=trial)
        bounds = interval(draws[1] - draws[0])
        assert bounds is not None
        covered += bounds[0] <= -0.1 <= bounds[1]
    assert 0.90 <= covered / 200 <= 0.99


def test_the_same_seed_gives_the_same_draws_and_equal_models_differ_by_nothing() -> None:
    truth = np.random.default_rng(8).integers(0, 2, 50)
    measure = Decisions("f1", np.stack([truth ^ 1, truth ^ 1]), truth, 3, 1)
    first, second, other = (resampled(measure, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert first.shape == other.shape
    assert interval(first[1] - first[0]) == (0.0, 0.0)


def test_an_interval_of_too_few_defined_resamples_is_none() -> None:
    values: Any = np.array([np.nan] * 6 + [0.1] * 4)
    assert interval(values) is None
    assert interval(np.array([np.nan] * 4 + [0.1] * 6)) == pytest.approx((0.1, 0.1))
