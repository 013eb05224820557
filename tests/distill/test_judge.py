"""Validation picks the threshold; test is only reported."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compress.batch import Examples, Floats, Splits
from compress.decide import softmax
from compress.distill.judge import Judge
from compress.recipe import ClassificationTask, PairsTask

PAIRS = PairsTask(kind="pairs")


def rows(labels: list[int]) -> Examples:
    """Pairs with the given labels."""
    names = [str(i) for i in range(len(labels))]
    return Examples(ids=names, texts=names, pairs=names, labels=np.array(labels, np.int64))


def logits(chances: list[float]) -> Floats:
    """Logits whose probability of label 1 is as given."""
    p = np.array(chances, np.float32)
    return np.stack([np.log1p(-p), np.log(p)], 1)


@pytest.fixture
def data() -> Splits:
    """Validation and test that want different thresholds."""
    return Splits(
        train=rows([0, 1]),
        validation=rows([0, 0, 1, 1]),
        test=rows([0, 1, 1, 1]),
        unlabeled=None,
        labels=("0", "1"),
        fingerprint="x",
    )


def test_the_threshold_is_validations(data: Splits) -> None:
    """Between .6 and .7, where validation is answered best, though test would want less."""
    judge = Judge(data, PAIRS)
    validation, test = logits([0.1, 0.6, 0.7, 0.9]), logits([0.1, 0.3, 0.5, 0.8])
    verdict = judge.verdict(validation, test)
    assert verdict.threshold == pytest.approx(0.65)
    assert verdict.validation["f1"] == 1.0
    assert verdict.test["f1"] == pytest.approx(0.5)
    assert judge.threshold(validation) == verdict.threshold


def test_test_labels_change_nothing_but_the_report(data: Splits) -> None:
    """Other test rows: the same threshold and the same validation."""
    validation, test = logits([0.1, 0.6, 0.7, 0.9]), logits([0.1, 0.3, 0.5, 0.8])
    one = Judge(data, PAIRS).verdict(validation, test)
    other = Judge(replace(data, test=rows([1, 1, 0, 0])), PAIRS).verdict(validation, test[::-1])
    assert (one.threshold, one.validation) == (other.threshold, other.validation)
    assert one.test != other.test


def test_positive_may_be_the_first_label(data: Splits) -> None:
    """The threshold is on the probability of the positive label, wherever it stands."""
    judge = Judge(data, PairsTask(kind="pairs", positive="0"))
    scores = logits([0.1, 0.6, 0.7, 0.9])
    assert judge.threshold(scores) == pytest.approx(0.35)
    assert judge.measure(scores, "validation", judge.threshold(scores))["f1"] == 1.0


def test_no_threshold_without_a_positive_label(data: Splits) -> None:
    """Classification and grades take the most probable class."""
    assert Judge(data, ClassificationTask(kind="classification")).threshold(logits([0.5] * 4)) is None
    graded = replace(data, labels=("0", "1", "2"))
    judge = Judge(graded, PAIRS)
    assert judge.metric == "macro_f1"
    assert judge.threshold(np.zeros((4, 3), np.float32)) is None


def test_labels_that_training_never_saw_are_wrong(data: Splits) -> None:
    """Label −1 in validation is neither a match nor right."""
    judge = Judge(replace(data, validation=rows([-1, 0, 1, 1])), PAIRS)
    scores = logits([0.95, 0.1, 0.7, 0.9])
    found = judge.measure(scores, "validation", judge.threshold(scores))
    assert found["accuracy"] == pytest.approx(0.75)
    assert softmax(scores).shape == (4, 2)
