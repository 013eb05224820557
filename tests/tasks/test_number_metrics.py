"""Errors and rank correlation against their formulas and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.tasks.number_metrics import number_metrics, spearman

NUMBERS = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=30)


def test_errors_by_hand() -> None:
    found = number_metrics(np.array([1.0, 2.0, 6.0]), np.array([1.0, 4.0, 5.0]))
    assert found["rmse"] == pytest.approx((5 / 3) ** 0.5)
    assert found["mae"] == pytest.approx(1.0)
    assert found["spearman"] == pytest.approx(1.0)


@settings(deadline=None)
@given(NUMBERS)
def test_spearman_is_scipys_also_with_ties(rows: list[tuple[int, int]]) -> None:
    from scipy.stats import spearmanr

    one, other = (np.array(side, float) for side in zip(*rows, strict=True))
    if len(set(one)) == 1 or len(set(other)) == 1:
        assert spearman(one, other) == 0.0  # where scipy has no number
        return
    assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic, abs=1e-12)
    assert spearman(one, -other) == pytest.approx(-spearman(one, other), abs=1e-12)
