"""Decisions, thresholds and measures."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.decide import best_threshold, decide, softmax
from compress.errors import RecipeError
from compress.recipe import ClassificationTask, PairsTask
from compress.tasks.label_metrics import evaluate, positive_label, primary_metric

ROWS = st.lists(st.tuples(st.integers(0, 8).map(lambda n: n / 8), st.booleans()), min_size=1, max_size=25)


def f1_at(scores: np.ndarray, truth: np.ndarray, threshold: float) -> float:
    """F1 counted by hand."""
    called = scores >= threshold
    hits = int((called & truth).sum())
    return 2 * hits / (int(called.sum()) + int(truth.sum())) if hits else 0.0


@given(ROWS)
def test_best_threshold_is_as_good_as_trying_all_and_the_nearest_to_half(
    rows: list[tuple[float, bool]],
) -> None:
    scores, truth = np.array([row[0] for row in rows], np.float32), np.array([row[1] for row in rows])
    chosen = best_threshold(scores, truth)
    if not truth.any():
        assert chosen == 0.5
        return
    edges = sorted({0.0, *scores.tolist()})
    candidates = [(low + high) / 2 for low, high in pairwise(edges)] + [min(scores.tolist()) / 2]
    best = max(f1_at(scores, truth, each) for each in candidates)
    assert f1_at(scores, truth, chosen) == pytest.approx(best)
    winners = [each for each in candidates if f1_at(scores, truth, each) == pytest.approx(best)]
    assert abs(chosen - 0.5) == pytest.approx(min(abs(each - 0.5) for each in winners))


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=25))
def test_decisions_at_the_best_threshold_reach_its_f1(rows: list[tuple[float, bool]]) -> None:
    scores, truth = np.array([row[0] for row in rows], np.float32), np.array([row[1] for row in rows])
    chosen = best_threshold(scores, truth)
    answers = decide(np.stack([1 - scores, scores], axis=1), 1, chosen)
    every = max(f1_at(scores.astype(float), truth, float(score)) for score in scores)
    hits = int((truth & (answers == 1)).sum())
    reached = 2 * hits / (int((answers == 1).sum()) + int(truth.sum())) if hits else 0.0
    assert not truth.any() or reached == pytest.approx(every)


def test_best_threshold_without_rows_is_half() -> None:
    assert best_threshold(np.zeros(0), np.zeros(0, bool)) == 0.5


def test_decide_takes_the_threshold_only_for_two_classes_with_a_positive_one() -> None:
    two = np.array([[0.6, 0.4], [0.8, 0.2]])
    assert decide(two, 1, 0.3).tolist() == [1, 0]
    assert decide(two, 0, 0.7).tolist() == [1, 0]
    assert decide(two, None, 0.3).tolist() == decide(two, 1, None).tolist() == [0, 0]
    assert decide(np.array([[0.2, 0.5, 0.3]]), 1, 0.9).tolist() == [1]


def test_softmax_of_large_logits_is_finite_and_sums_to_one() -> None:
    found = softmax(np.array([[1e4, 1e4 - 1.0], [-1e4, 3.0]], np.float32))
    assert np.allclose(found.sum(axis=1), 1)
    assert found[0, 0] == pytest.approx(1 / (1 + np.exp(-1)))


def test_evaluate_pairs_against_a_confusion_counted_by_hand() -> None:
    scores = np.array([0.9, 0.6, 0.4, 0.2, 0.8])
    found = evaluate(np.stack([1 - scores, scores], axis=1), np.array([1, 1, 1, 0, 0]), ("0", "1"), "1", 0.5)
    assert found["precision"] == found["recall"] == found["f1"] == pytest.approx(2 / 3)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["auc"] == pytest.approx(4 / 6)
    assert evaluate(np.stack([1 - scores, scores], axis=1), np.array([1, 1, 1, 0, 0]), ("0", "1"), "1", 0.3)[
        "recall"
    ] == pytest.approx(1)


def test_a_label_that_training_never_saw_is_always_wrong() -> None:
    sure = np.eye(2)[[0, 1, 1]]
    found = evaluate(sure, np.array([0, 1, -1]), ("a", "b"))
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert found["weighted_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert "f1" not in found


def test_auc_is_left_out_when_only_one_class_is_there() -> None:
    assert "auc" not in evaluate(np.array([[0.1, 0.9]]), np.array([1]), ("0", "1"), "1")


def test_evaluate_refuses_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        evaluate(np.ones((2, 3)), np.array([0, 1]), ("a", "b"))


def test_primary_metric_follows_task_and_labels() -> None:
    pairs = PairsTask(kind="pairs")
    assert primary_metric(pairs, ("0", "1")) == "f1"
    assert primary_metric(pairs, ("0", "1", "2")) == "macro_f1"
    assert primary_metric(PairsTask(kind="pairs", metric="auc"), ("0", "1")) == "auc"
    assert primary_metric(ClassificationTask(kind="classification"), ("a", "b")) == "macro_f1"
    assert positive_label(pairs, ("0", "1")) == "1"
    assert positive_label(pairs, ("0", "1", "2")) is None


def test_metrics_that_the_labels_cannot_give_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"task\.metric.*auc.*3 labels"):
        primary_metric(PairsTask(kind="pairs", metric="auc"), ("0", "1", "2"))
    with pytest.raises(RecipeError, match=r"task\.positive.*'1'.*yes"):
        primary_metric(PairsTask(kind="pairs"), ("no", "yes"))
