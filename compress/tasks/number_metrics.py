"""How near numbers are: errors, and rank correlation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def number_metrics(answers: npt.NDArray[Any], truth: npt.NDArray[Any]) -> dict[str, float]:
    """rmse and mae in the unit of the numbers, and spearman, -1..1: answers [N] against truth [N].

    Raises:
        ValueError: other shapes, or no rows.
    """
    from sklearn.metrics import mean_absolute_error, root_mean_squared_error

    return {
        "rmse": float(root_mean_squared_error(truth, answers)),
        "mae": float(mean_absolute_error(truth, answers)),
        "spearman": spearman(answers, truth),
    }


def spearman(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Spearman's rank correlation of [N] and [N], ties at their mean rank; 0 where one side is all equal."""
    from scipy.stats import rankdata

    first, second = (rankdata(side) - (len(side) + 1) / 2 for side in (one, other))
    size = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / size) if size else 0.0
