"""Paired bootstrap: how far a difference of two models' measures may be chance.

Efron 1979 (https://doi.org/10.1214/aos/1176344552); for two systems on one test set Koehn 2004
(https://aclanthology.org/W04-3250). Both models are measured on the same resamples; the interval is the percentile one.
"""

from __future__ import annotations

import numpy as np

from compress.batch import Numbers
from compress.certificate.weighted import Weighted

RESAMPLES = 1000
CONFIDENCE = 0.95
CELLS = 2_000_000
"""Weights that are in memory together."""


def resampled(measure: Weighted, seed: int) -> Numbers:
    """The measure of each model on RESAMPLES draws of as many units as there are, with replacement: [M, RESAMPLES]."""
    rng, counts = np.random.default_rng(seed), measure.counts
    total = int(counts.sum())
    at_once = max(1, CELLS // len(counts))
    found = []
    for start in range(0, RESAMPLES, at_once):
        drawn = rng.multinomial(total, counts / total, size=min(at_once, RESAMPLES - start))
        found.append(measure.values(drawn.astype(np.float64)))
    return np.concatenate(found, axis=1)


def interval(differences: Numbers) -> tuple[float, float] | None:
    """Where the middle 95% of the differences [RESAMPLES] lie; None where the measure is defined on too few of them.

    Resamples on which it is not defined (AUC of rows that are all of one class) are left out.
    """
    known = differences[np.isfinite(differences)]
    if len(known) < len(differences) / 2:
        return None
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
