"""How sure a teacher is: against probabilities worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from compress.batch import TeacherOutputs
from compress.teachers import certainty as module
from compress.teachers.certainty import certainty


def test_mean_and_share_of_unsure_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probabilities 0.95, 0.5, 0.8 and 0.99 in two pieces, the first row left out of the second count."""
    monkeypatch.setattr(module, "ROWS_A_PIECE", 3)
    odds = np.log(np.array([[0.95, 0.05], [0.5, 0.5], [0.2, 0.8], [0.99, 0.01]]))
    said = TeacherOutputs(logits=(odds + 3).astype(np.float16))
    whole = certainty(said, 0, 4)
    assert (whole.rows, whole.unsure) == (4, 0.5)
    assert whole.mean == pytest.approx((0.95 + 0.5 + 0.8 + 0.99) / 4, abs=1e-3)
    assert certainty(said, 1, 4).mean == pytest.approx((0.5 + 0.8 + 0.99) / 3, abs=1e-3)
    assert str(whole) == "mean highest probability 0.810, below 0.9 in 50.0% of 4"
