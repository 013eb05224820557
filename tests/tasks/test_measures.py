"""Which direction is better, and what follows for losses, gains and shares."""

from __future__ import annotations

import pytest

from compress.recipe import RankingTask, RegressionTask
from compress.tasks.measures import measure_named


def test_higher_is_better_for_shares() -> None:
    f1 = measure_named("f1")
    assert f1.better(0.8, 0.7)
    assert not f1.better(0.7, 0.7)
    assert f1.better(0.0, None)
    assert f1.gain(0.8, over=0.7) == pytest.approx(0.1)
    assert f1.loss(before=0.8, after=0.7) == pytest.approx(0.1)
    assert f1.retention(0.7, 0.8) == pytest.approx(0.875)
    assert f1.retention(0.7, 0.0) is None


def test_lower_is_better_for_errors_whose_loss_is_a_share() -> None:
    rmse = measure_named("rmse")
    assert rmse.better(3.0, 4.0)
    assert rmse.gain(3.0, over=4.0) == 1.0
    assert rmse.loss(before=50.0, after=55.0) == pytest.approx(0.1)
    assert rmse.loss(before=50.0, after=45.0) == pytest.approx(-0.1)
    assert (rmse.loss(0.0, 0.0), rmse.loss(0.0, 1.0)) == (0.0, 1.0)
    assert rmse.retention(50.0, 40.0) == pytest.approx(0.8)
    assert rmse.retention(0.0, 40.0) is None
    assert not rmse.in_points


def test_a_correlation_may_be_negative_and_then_has_no_share() -> None:
    rank = measure_named("spearman")
    assert rank.better(-0.2, -0.4)
    assert rank.loss(before=0.5, after=0.25) == 0.25
    assert rank.retention(0.3, -0.1) is None


@pytest.mark.parametrize("name", ["ndcg@10", "mrr@3", "recall@100", "map"])
def test_a_cutoff_is_part_of_the_name(name: str) -> None:
    found = measure_named(name)
    assert (found.name, found.higher_is_better, found.high) == (name, True, 1.0)


def test_every_metric_of_a_recipe_is_known() -> None:
    assert RankingTask(kind="ranking", metric="recall@5").cutoff == 5
    assert RankingTask(kind="ranking", metric="map").cutoff == 10
    assert not measure_named(RegressionTask(kind="regression", metric="mae").metric).higher_is_better
