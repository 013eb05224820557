"""Ranking and regression on the data of a run."""

from __future__ import annotations

import numpy as np
import pytest

from compress.batch import Examples, Splits
from compress.recipe import RankingTask, RegressionTask
from compress.tasks.kinds import task_kind


def rows(labels: list[float], groups: list[str] | None = None) -> Examples:
    names = [f"r{i}" for i in range(len(labels))]
    pairs = names if groups is not None else None
    return Examples(ids=names, texts=names, pairs=pairs, labels=np.array(labels), groups=groups)


def splits(train: Examples) -> Splits:
    return Splits(train=train, validation=train, test=train, unlabeled=None, labels=("score",), fingerprint="")


def test_regression_learns_standardised_and_is_measured_in_its_unit() -> None:
    data = splits(rows([10.0, 20.0, 30.0]))
    kind = task_kind(RegressionTask(kind="regression"), data)
    assert kind.standard is not None
    assert (kind.standard.mean, kind.standard.std) == (20.0, pytest.approx((200 / 3) ** 0.5))
    targets = kind.targets(np.array([10.0, 20.0, np.nan]))
    assert targets[:2].tolist() == pytest.approx([-((3 / 2) ** 0.5), 0.0])
    assert np.isnan(targets[2])
    perfect = kind.targets(np.array([10.0, 20.0, 30.0])).reshape(-1, 1)
    assert kind.scores(perfect)[:, 0].tolist() == pytest.approx([10, 20, 30])
    assert kind.measure(kind.scores(perfect), data.test)["rmse"] == pytest.approx(0, abs=1e-5)
    assert (kind.grouped, kind.two_texts, kind.metric.higher_is_better) == (False, False, False)
    assert kind.threshold(perfect, data.validation) is None


def test_ranking_is_measured_by_group_at_its_cutoff() -> None:
    data = splits(rows([0, 1, 1, 0], ["a", "a", "b", "b"]))
    kind = task_kind(RankingTask(kind="ranking", metric="mrr@1"), data)
    found = kind.measure(kind.scores(np.array([[0.1], [0.2], [5.0], [6.0]], np.float32)), data.test)
    assert found.keys() == set(kind.measured) == {"ndcg@1", "mrr@1", "map", "recall@1"}
    assert found["mrr@1"] == 0.5
    assert (kind.grouped, kind.two_texts, kind.standard) == (True, True, None)


def test_labels_for_large_numbers_keep_their_digits() -> None:
    """Seconds since 1970, a minute apart: float32 would make them equal."""
    kind = task_kind(RegressionTask(kind="regression"), splits(rows([1.7e9, 1.7e9 + 60, 1.7e9 + 120])))
    assert len(set(kind.targets(np.array([1.7e9, 1.7e9 + 60])).tolist())) == 2
