"""Several teachers as one: their answers mixed, on each row by weight and, if wanted, by how sure each is there.

For labels the student learns the log of the weighted mean of the members' probabilities (a mixture: Hinton et al. 2015,
https://arxiv.org/abs/1503.02531, of an ensemble; You et al. 2017, "Learning from Multiple Teacher Networks",
https://doi.org/10.1145/3097983.3098135); numbers and scores are the weighted mean.

Sure is who has a small cross-entropy with the row's label, as in Zhang et al. 2022 ("Confidence-Aware Multi-Teacher
Knowledge Distillation", https://arxiv.org/abs/2201.00007); on rows without a label the member's own probabilities stand
for it, which makes its entropy of the cross-entropy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, logsumexp, softmax

from compress.batch import Ints, Numbers


def shares(weights: Sequence[float], rows: int) -> Numbers:
    """Weights > 0 of M members as shares of their sum, the same for all rows: [M, N]."""
    parts = np.asarray(weights, np.float64)
    return np.repeat((parts / parts.sum())[:, None], rows, 1)


def confident_shares(logits: npt.NDArray[np.floating], labels: Ints | None, weights: Sequence[float]) -> Numbers:
    """Shares w_k·(1 − e^{L_k} / Σ_j e^{L_j}) of the M ≥ 2 members on each row, normalised over members: [M, N].

    L_k is the cross-entropy of member k with the row's label or, where the label is -1 or labels are None, its entropy.
    logits: [M, N, C]. labels: [N].
    """
    logs = log_softmax(np.asarray(logits, np.float64), axis=-1)
    losses = -(np.exp(logs) * logs).sum(-1)
    if labels is not None:
        known = np.flatnonzero(labels >= 0)
        losses[:, known] = -logs[:, known, labels[known]]
    sure = 1 - softmax(losses, axis=0)
    # Of two, one hopeless to the last digit: 1 − 1 for it, and 1 for the other.
    found = np.asarray(weights, np.float64)[:, None] * sure
    return np.asarray(found / found.sum(0))


def mixture(logits: npt.NDArray[np.floating], parts: Numbers) -> Numbers:
    """log Σ_k parts_k·softmax(logits_k): log-probabilities [N, C] of logits [M, N, C] and shares [M, N]."""
    logs = log_softmax(np.asarray(logits, np.float64), axis=-1)
    return np.asarray(logsumexp(logs, axis=0, b=parts[:, :, None]))


def weighted_mean(numbers: npt.NDArray[np.floating], parts: Numbers) -> Numbers:
    """Σ_k parts_k·numbers_k: [N, C] of [M, N, C] and shares [M, N]."""
    return np.asarray((parts[:, :, None] * np.asarray(numbers, np.float64)).sum(0))
