"""MiniLMv2's relation loss by the paper's formula, for tests of the kernel and of the term that uses it."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax
from torch import Tensor


def relations_by_loops(student: Tensor, teacher: Tensor, mask: Tensor, heads: int) -> float:
    """Row by row and head by head, on the real tokens of the rows that have some; zero where there is no such row."""
    rows = []
    for one, other, real in zip(*(side.detach().double().numpy() for side in (student, teacher)), mask, strict=True):
        if not real.any():
            continue
        found = []
        for a, b in zip(np.split(one[real], heads, -1), np.split(other[real], heads, -1), strict=True):
            ours, theirs = (log_softmax(part @ part.T / np.sqrt(part.shape[-1]), axis=-1) for part in (a, b))
            found.append((np.exp(theirs) * (theirs - ours)).sum(-1))
        rows.append(np.mean(found))
    return float(np.mean(rows)) if rows else 0.0
