"""Percentiles, their intervals and early stopping, against scipy, hand-computed counts and LoadGen's table."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from compress.bench.statistics import at_most, early_stopping_estimate, figures, judge, order_interval, quantiles


@pytest.mark.parametrize(("draws", "chance"), [(1, 0.5), (30, 0.01), (500, 0.99), (5000, 0.5)])
def test_the_binomial_is_scipys(draws: int, chance: float) -> None:
    expected = stats.binom.cdf(np.arange(draws + 1), draws, chance)
    assert at_most(draws, chance) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_interval_of_a_quantile_is_scipys() -> None:
    calls = np.sort(np.random.default_rng(1).lognormal(size=1000))
    for share in (0.5, 0.9, 0.99):
        expected = stats.quantile_test(calls, p=share).confidence_interval(0.95)
        assert order_interval(calls, share) == pytest.approx((expected.low, expected.high))


def test_the_interval_holds_the_true_p99_as_often_as_it_says() -> None:
    rng, truth = np.random.default_rng(5), stats.expon.ppf(0.99)
    inside = 0
    for _ in range(400):
        low, high = order_interval(np.sort(rng.exponential(size=1000)), 0.99)
        assert low is not None
        assert high is not None
        inside += low <= truth <= high
    assert inside / 400 > 0.93


def test_too_few_calls_have_no_upper_end() -> None:
    assert figures([1_000_000] * 367)["p99_ci_high"] is None
    assert figures([1_000_000] * 368)["p99_ci_high"] == 1
    assert figures([1_000_000] * 661)["p99_early_stopping_ms"] is None
    assert figures([1_000_000] * 662)["p99_early_stopping_ms"] == 1


def test_what_is_discarded_is_what_the_claim_allows() -> None:
    """Of 2,000 calls 9 may be slower: P(B <= 9) <= 1% for a binomial of 2,000 with 1%, and P(B <= 10) > 1%."""
    assert stats.binom.cdf(9, 2000, 0.01) <= 0.01 < stats.binom.cdf(10, 2000, 0.01)
    assert early_stopping_estimate(np.arange(1.0, 2001)) == 1992


@pytest.mark.parametrize(
    ("over", "queries", "verdict"),
    [(0, 458, "open"), (0, 459, "held"), (1, 661, "open"), (1, 662, "held"), (5, 100, "missed"), (1, 100, "open")],
)
def test_a_bound_is_judged_at_99_percent(over: int, queries: int, verdict: str) -> None:
    assert judge(over, queries) == verdict
    upper = stats.beta.ppf(0.99, over + 1, queries - over)  # Clopper and Pearson's one-sided bound
    assert (upper <= 0.01) == (verdict == "held")


def test_percentiles_are_observed_and_in_order() -> None:
    found = figures(np.arange(1, 1001) * 1_000_000)
    assert (found["min_ms"], found["p99_ms"], found["p999_ms"]) == (1, 991, 1000)
    assert found["p50_ms"] == 500.5


def test_the_distribution_is_as_fine_as_the_calls_allow() -> None:
    """With 1,000 calls 99.9% is the last quantile with a call beyond it; the percentiles of the row are among them."""
    found = figures(np.arange(1, 1001) * 1_000_000)
    kept = dict(found["latency_quantiles_ms"])
    assert list(kept) == [0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1]
    assert (kept[0], kept[0.5], kept[0.9], kept[0.99], kept[0.999], kept[1]) == (1, 500.5, 900.1, 991, 1000, 1000)
    assert [p for p, _ in quantiles(np.arange(1.0, 101))] == [0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1]
    assert [p for p, _ in quantiles(np.ones(1))] == [0, 1]
