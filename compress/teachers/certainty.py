"""How sure a teacher is of the rows that it answers: one sure of all of them tells no more than their labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from compress.batch import TeacherOutputs
from compress.teachers.arrays import ROWS_A_PIECE, let_go

UNSURE = 0.9
"""A row whose most probable label has less is one that the teacher is not sure of."""
OVERSURE = 0.99
"""Mean probability of the most probable label from which on soft targets are labels."""


@dataclass(frozen=True)
class Certainty:
    """Of some rows: how many, the mean probability of the most probable label, and the share of unsure rows."""

    rows: int
    mean: float
    unsure: float

    def __str__(self) -> str:
        return f"mean highest probability {self.mean:.3f}, below {UNSURE:g} in {self.unsure:.1%} of {self.rows:,}"


def certainty(said: TeacherOutputs, start: int, stop: int) -> Certainty:
    """Of the rows from `start` up to `stop`, which are some; with the largest logits alone, the rest is one label."""
    total, unsure = 0.0, 0
    for at in range(start, stop, ROWS_A_PIECE):
        logits = np.asarray(said.logits[at : min(at + ROWS_A_PIECE, stop)], np.float64)
        highest = softmax(logits, axis=1).max(1)
        total += float(highest.sum())
        unsure += int((highest < UNSURE).sum())
        let_go(said.logits)
    rows = stop - start
    return Certainty(rows, total / rows, unsure / rows)
