"""From logits to answers: softmax, argmax or threshold, the best threshold, numbers in their unit. Numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

DEFAULT_THRESHOLD = 0.5


def softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Probabilities, float32 [B, C], of logits [B, C]; large values do not overflow."""
    wide = np.asarray(logits, np.float64)
    powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


def in_unit(logits: npt.NDArray[Any], mean: float, std: float) -> npt.NDArray[np.float64]:
    """Numbers in the unit of the labels, float64 like `logits`, of standardised ones."""
    return np.asarray(logits, np.float64) * std + mean


def decide(
    probabilities: npt.NDArray[Any], positive_index: int | None, threshold: float | None
) -> npt.NDArray[np.int64]:
    """Class index, int64 [B], for probabilities [B, C].

    The most probable class; with two classes, a positive one and a threshold, the positive one from the
    threshold on.
    """
    if positive_index is None or threshold is None or probabilities.shape[1] != 2:
        return np.asarray(probabilities.argmax(axis=1), np.int64)
    # In float32 the threshold could round onto the score just below it.
    positive = probabilities[:, positive_index].astype(np.float64) >= threshold
    return np.where(positive, positive_index, 1 - positive_index).astype(np.int64)


def best_threshold(scores: npt.NDArray[Any], is_positive: npt.NDArray[Any]) -> float:
    """The threshold on scores [N], 0..1, with the highest F1 of the positive rows, is_positive bool [N].

    Candidates are the midpoints between neighbouring distinct scores, and half the lowest score (all rows
    positive). Of equally good ones the nearest to .5 is taken. Without rows, or without positive ones, .5.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    ranked = np.asarray(scores, np.float64)[order]
    hits = np.cumsum(np.asarray(is_positive, bool)[order])
    if len(hits) == 0 or hits[-1] == 0:
        return DEFAULT_THRESHOLD
    # Row i closes a group of equal scores: everything up to it is called positive.
    closing = np.append(np.flatnonzero(ranked[:-1] != ranked[1:]), len(ranked) - 1)
    upper = ranked[closing]
    lower = np.append(ranked[closing[:-1] + 1], 0.0)
    middle = lower + (upper - lower) / 2
    candidates = np.where(middle > lower, middle, upper)
    f1 = 2 * hits[closing] / (closing + 1 + hits[-1])
    best = candidates[f1 == f1.max()]
    return float(best[np.abs(best - DEFAULT_THRESHOLD).argmin()])
