"""What a sample of latencies says of its percentiles, and how sure that is.

Only what numpy has, for the bench runs where scipy is not installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

INTERVAL = 0.95
"""Confidence of the intervals."""
CONFIDENCE = 0.99
"""Confidence of early stopping, MLPerf's."""
PERCENTILE = 0.99
"""Share of queries that a bound on p99 speaks of."""
Verdict = Literal["held", "missed", "open"]
PROBABILITIES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 1.0)
"""Of the quantiles that a row keeps of its latencies."""


def figures(latencies_ns: Sequence[int] | npt.NDArray[Any]) -> dict[str, Any]:
    """Least, median, p90, p99 and p99.9 in milliseconds, with 95% intervals and MLPerf's early-stopping p99.

    An interval's upper end, or the early-stopping estimate, is None where there are too few calls to give one.
    """
    calls = np.sort(np.asarray(latencies_ns, np.float64)) / 1e6
    p50_low, p50_high = order_interval(calls, 0.5)
    p99_low, p99_high = order_interval(calls, PERCENTILE)
    return {
        "min_ms": float(calls[0]),
        "p50_ms": float(np.percentile(calls, 50)),
        "p90_ms": float(np.percentile(calls, 90)),
        # Interpolating between the two slowest calls would report a latency that nobody saw.
        "p99_ms": float(np.percentile(calls, 99, method="higher")),
        "p999_ms": float(np.percentile(calls, 99.9, method="higher")),
        "p50_ci_low": p50_low,
        "p50_ci_high": p50_high,
        "p99_ci_low": p99_low,
        "p99_ci_high": p99_high,
        "p99_early_stopping_ms": early_stopping_estimate(calls),
        "latency_quantiles_ms": quantiles(calls),
    }


def quantiles(calls: npt.NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    """Probability and latency in milliseconds, ascending, from the least (0) to the largest (1).

    Of PROBABILITIES those that N calls resolve: at least one call is on either side. As with the percentiles of a row
    they are observed values from 0.99 on. calls: ascending, [N].
    """
    resolved = [p for p in PROBABILITIES if p in {0.0, 1.0} or len(calls) * min(p, 1 - p) > 1 - 1e-9]
    return tuple(
        (p, round(float(np.quantile(calls, p, method="higher" if p >= PERCENTILE else "linear")), 6)) for p in resolved
    )


def order_interval(calls: npt.NDArray[np.float64], share: float) -> tuple[float | None, float | None]:
    """Distribution-free interval of a quantile from order statistics (David and Nagaraja 2003, section 7.1).

    Args:
        calls: latencies in ascending order, [N]. share: of the quantile, 0..1.

    Returns:
        Observed latencies between which the quantile lies with at least 95% confidence, were the calls independent;
        None for an end that N calls cannot give.
    """
    tail = (1 - INTERVAL) / 2
    below = at_most(len(calls), share)
    low = int(np.searchsorted(below, tail, side="right"))  # ranks from 1: P(B <= low - 1) <= tail
    high = int(np.searchsorted(below, 1 - tail, side="left")) + 1  # P(B <= high - 1) >= 1 - tail
    return (
        float(calls[low - 1]) if low >= 1 else None,
        float(calls[high - 1]) if high <= len(calls) else None,
    )


def early_stopping_estimate(calls: npt.NDArray[np.float64]) -> float | None:
    """MLPerf's early-stopping estimate of p99, which p99 does not exceed with 99% confidence; None below 662 calls.

    The slowest calls are discarded, as many as are compatible with the claim that 99% of all calls are as fast as those
    that remain (https://github.com/mlcommons/inference_policies/blob/master/inference_rules.adoc, appendix on early
    stopping). calls: ascending, [N].
    """
    chance = at_most(len(calls), 1 - PERCENTILE)
    over = int(np.searchsorted(chance, 1 - CONFIDENCE, side="right")) - 1
    return float(calls[len(calls) - over]) if over >= 1 else None


def judge(over: int, queries: int) -> Verdict:
    """Whether p99 is within a bound that `over` of `queries` missed, at 99% confidence each way (Clopper-Pearson).

    `held` needs 459 queries without a miss, 662 with one, 838 with two …; Clopper and Pearson 1934
    (https://doi.org/10.1093/biomet/26.4.404).
    """
    chance = at_most(queries, 1 - PERCENTILE)
    if chance[over] <= 1 - CONFIDENCE:
        return "held"
    at_least = 1 - (chance[over - 1] if over else 0.0)
    return "missed" if at_least <= 1 - CONFIDENCE else "open"


def at_most(draws: int, chance: float) -> npt.NDArray[np.float64]:
    """P(B <= k) of a binomial B of `draws` with `chance` (0 < chance < 1), for k = 0 … draws."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, draws + 1)))])
    hits = np.arange(draws + 1)
    logs = factorials[-1] - factorials - factorials[::-1] + hits * np.log(chance) + hits[::-1] * np.log1p(-chance)
    return np.cumsum(np.exp(logs))
