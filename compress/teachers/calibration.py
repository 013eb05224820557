"""One temperature that makes a teacher's probabilities mean what they say: Guo et al. 2017.

"On Calibration of Modern Neural Networks" (https://arxiv.org/abs/1706.04599): logits are divided by the temperature
with the least negative log-likelihood on validation rows, which leaves the order of the labels as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from compress.batch import Ints

LOWEST, HIGHEST = 0.1, 10.0
"""Between these a temperature is looked for."""
BINS = 15


@dataclass(frozen=True)
class Calibration:
    """A temperature, and what it does to the expected calibration error (0..1) on the rows that it was fitted to.

    fitted: False, and the temperature 1, where no row is wrong: the lower a temperature, the likelier are they all.
    """

    temperature: float
    error_before: float
    error_after: float
    rows: int
    fitted: bool


def calibrate(logits: npt.NDArray[np.floating], labels: Ints) -> Calibration:
    """The temperature for logits [N, C] whose labels are known; rows of label -1 are left out.

    Raises:
        ValueError: no row has a label.
    """
    known = np.flatnonzero(labels >= 0)
    if not len(known):
        raise ValueError("no row has a label that training knows")
    wide, right = np.asarray(logits, np.float64)[known], labels[known]
    fitted = bool((wide.argmax(1) != right).any())
    temperature = fit_temperature(wide, right) if fitted else 1.0
    return Calibration(
        temperature,
        calibration_error(softmax(wide, axis=1), right),
        calibration_error(softmax(wide / temperature, axis=1), right),
        len(known),
        fitted,
    )


def likelihood_loss(logits: npt.NDArray[np.floating], labels: Ints, temperature: float) -> float:
    """Mean negative log-likelihood of labels [N] under softmax(logits / temperature), logits [N, C]."""
    logs = log_softmax(np.asarray(logits, np.float64) / temperature, axis=1)
    return float(-logs[np.arange(len(labels)), labels].mean())


def fit_temperature(logits: npt.NDArray[np.floating], labels: Ints) -> float:
    """The temperature from 0.1 to 10 with the least negative log-likelihood, which has one dip over it."""
    found = minimize_scalar(
        lambda log: likelihood_loss(logits, labels, float(np.exp(log))),
        bounds=(np.log(LOWEST), np.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def calibration_error(probabilities: npt.NDArray[np.floating], labels: Ints) -> float:
    """Expected calibration error: Σ_b |B_b| / N · |accuracy − mean confidence| over 15 bins ((b − 1)/15, b/15].

    A row's confidence is its highest probability. probabilities: [N, C]; labels: [N].
    """
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    bins = np.ceil(confidence * BINS).astype(np.int64)
    gaps = np.bincount(bins, weights=right - confidence, minlength=BINS + 1)
    return float(np.abs(gaps).sum() / len(labels))
