"""The temperature against a grid of them, the expected calibration error against one computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from compress.teachers.calibration import (
    HIGHEST,
    LOWEST,
    calibrate,
    calibration_error,
    fit_temperature,
    likelihood_loss,
)


def drawn(rows: int, overconfident: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from their probabilities at another temperature."""
    generator = np.random.default_rng(2)
    logits = generator.normal(0, 2, (rows, 3))
    true = np.exp(logits / overconfident)
    true /= true.sum(1, keepdims=True)
    return logits, (true.cumsum(1) < generator.random((rows, 1))).sum(1)


def test_the_temperature_is_the_best_of_a_fine_grid() -> None:
    logits, labels = drawn(4000, 2.5)
    grid = np.exp(np.linspace(np.log(LOWEST), np.log(HIGHEST), 2000))
    best = grid[np.argmin([likelihood_loss(logits, labels, t) for t in grid])]
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(best, rel=3e-3)
    assert found == pytest.approx(2.5, rel=0.1)


def test_the_loss_is_that_of_the_labels() -> None:
    logits = np.log(np.array([[0.5, 0.5], [0.8, 0.2]]))
    assert likelihood_loss(logits, np.array([0, 1]), 1.0) == pytest.approx(-(np.log(0.5) + np.log(0.2)) / 2)


def test_the_error_is_the_gap_of_each_bin_weighted_by_its_rows() -> None:
    """Bins of 1/15: 0.61 and 0.65 are in (9/15, 10/15], 0.95 alone in the last."""
    confident = np.array([0.61, 0.65, 0.95, 1.0])
    probabilities = np.stack([confident, 1 - confident], 1)
    labels = np.array([0, 1, 0, 1])
    expected = (2 * abs(0.5 - 0.63) + 2 * abs(0.5 - 0.975)) / 4
    assert calibration_error(probabilities, labels) == pytest.approx(expected)


def test_rows_without_a_known_label_are_left_out_and_the_error_falls() -> None:
    logits, labels = drawn(4000, 2.5)
    unknown = np.concatenate([labels, [-1]])
    found = calibrate(np.concatenate([logits, [[99.0, 0, 0]]]), unknown)
    assert (found.rows, found.fitted) == (4000, True)
    assert found.temperature == fit_temperature(logits, labels)
    assert found.error_after < found.error_before / 4
    with pytest.raises(ValueError, match="no row has a label"):
        calibrate(logits[:1], np.array([-1]))


def test_a_teacher_that_is_never_wrong_stays_as_it_is() -> None:
    logits = np.eye(3)[[0, 1, 2, 0]] * 4.0
    found = calibrate(logits, logits.argmax(1))
    assert (found.temperature, found.fitted) == (1.0, False)
    assert found.error_after == found.error_before > 0
