"""Parity figures, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compress.errors import KdcError
from compress.export.parity import agreement, compare, evaluated
from compress.runtime.predictor import Predictor
from compress.steps.shipping import parity_failure
from tests.tiny import tiny_deployable, tiny_requests

PARENT = np.array([[1.0, 0.0], [0.0, 2.0], [0.5, 0.25]], np.float32)
CHILD = np.array([[1.0, 0.0], [0.0, 1.5], [0.25, 0.5]], np.float32)


class Fixed:
    """Answers any requests with rows of a table."""

    def __init__(self, table: np.ndarray) -> None:
        self.table = table

    def logits(self, requests):
        return self.table[list(requests)]


def test_figures_by_hand() -> None:
    found = agreement(PARENT, CHILD)
    assert found == {"max_logit_difference": 0.5, "argmax_agreement": pytest.approx(2 / 3), "requests": 3}
    assert compare(Fixed(PARENT), Fixed(CHILD), [0, 1]) == {
        "max_logit_difference": 0.5,
        "argmax_agreement": 1.0,
        "requests": 2,
    }


@pytest.mark.parametrize("other", [CHILD[:2], CHILD[:, :1], CHILD[:0]])
def test_other_shapes_are_an_error_with_both_shapes(other: np.ndarray) -> None:
    with pytest.raises(KdcError, match=r"\[3, 2\] and "):
        agreement(PARENT, other)


def test_no_rows_are_an_error() -> None:
    with pytest.raises(KdcError, match=r"\[0, 2\]"):
        agreement(PARENT[:0], CHILD[:0])


def test_a_logit_that_is_not_finite_is_an_error() -> None:
    broken = CHILD.copy()
    broken[1, 0] = np.nan
    with pytest.raises(KdcError, match=r"converted model .* 1 of 3 requests, first for request 1"):
        agreement(PARENT, broken)


def test_numbers_are_compared_by_their_order() -> None:
    """Spearman's correlation; a label that is always the first would agree whatever happened."""
    one = np.array([[1.0], [2.0], [3.0]], np.float32)
    assert agreement(one, one + 0.25) == {"max_logit_difference": 0.25, "rank_correlation": 1.0, "requests": 3}
    assert agreement(one, -one)["rank_correlation"] == pytest.approx(-1.0)


def test_the_reference_evaluator_says_what_onnxruntime_says(tmp_path: Path) -> None:
    predictor = Predictor.from_folder(tiny_deployable(tmp_path / "model"))
    feed = predictor.encode(tiny_requests())
    np.testing.assert_allclose(
        evaluated(tmp_path / "model" / "model.onnx", feed), predictor.logits_from(feed), atol=1e-5
    )


@pytest.mark.parametrize(
    ("runtime", "evaluator", "blamed"), [(0.5, 0.0, "from torch"), (0.0, 0.5, "ONNX's reference evaluator")]
)
def test_either_opinion_may_refuse_an_export(runtime: float, evaluator: float, blamed: str) -> None:
    third = {"max_logit_difference": evaluator}
    parity = {"max_logit_difference": runtime, "reference_evaluator": third, "limit": 0.1}
    assert blamed in str(parity_failure({"parity": parity}, "model.onnx"))
    assert parity_failure({"parity": parity | {"limit": 0.6}}, "model.onnx") is None
