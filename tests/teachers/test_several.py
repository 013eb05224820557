"""Mixtures and gates against the formulas written out for single rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from compress.decide import softmax
from compress.teachers.several import confident_shares, mixture, shares, weighted_mean

GENERATOR = np.random.default_rng(4)


def test_a_mixture_is_the_logarithm_of_the_weighted_mean_of_probabilities() -> None:
    logits = GENERATOR.normal(0, 3, (2, 5, 4)).astype(np.float32)
    found = mixture(logits, shares([3.0, 1.0], 5))
    expected = np.log(0.75 * softmax(logits[0]).astype(np.float64) + 0.25 * softmax(logits[1]))
    assert found == pytest.approx(expected, abs=1e-6)
    assert np.exp(found).sum(1) == pytest.approx(np.ones(5))
    # not the mean of logits: one teacher that is sure does not outvote the other beyond its weight
    sure = np.array([[[60.0, 0.0]], [[0.0, 0.0]]])
    assert np.exp(mixture(sure, shares([1, 1], 1)))[0] == pytest.approx([0.75, 0.25])


def test_probabilities_too_small_for_a_number_still_have_a_logarithm() -> None:
    far = np.array([[[0.0, -2000.0]], [[0.0, -3000.0]]])
    assert mixture(far, shares([1, 1], 1))[0] == pytest.approx([0.0, -2000.0 + np.log(0.5)])


def test_numbers_are_the_weighted_mean() -> None:
    said = np.array([[[1.0], [4.0]], [[3.0], [0.0]]])
    assert weighted_mean(said, shares([1, 3], 2)).tolist() == [[2.5], [1.0]]


def test_the_gate_weighs_by_cross_entropy_with_the_label_and_without_one_by_entropy() -> None:
    """Three members: w_k·(1 − e^{L_k} / Σ_j e^{L_j}), then shares of the sum."""
    probabilities = np.array([[[0.7, 0.2, 0.1]] * 2, [[0.1, 0.8, 0.1]] * 2, [[0.4, 0.3, 0.3]] * 2])
    weights = [1.0, 2.0, 1.0]
    found = confident_shares(np.log(probabilities), np.array([0, -1]), weights)

    right = probabilities[:, 0, 0]  # e^{−ln p} = 1 / p
    by_label = np.array(weights) * (1 - (1 / right) / (1 / right).sum())
    assert found[:, 0] == pytest.approx(by_label / by_label.sum())

    perplexity = np.array([np.prod(p ** (-p)) for p in probabilities[:, 1]])  # e^{entropy}
    by_entropy = np.array(weights) * (1 - perplexity / perplexity.sum())
    assert found[:, 1] == pytest.approx(by_entropy / by_entropy.sum())
    assert confident_shares(np.log(probabilities), None, weights)[:, 0] == pytest.approx(found[:, 1])


def test_a_hopeless_member_is_left_out_and_the_mixture_stays_finite() -> None:
    logits = np.array([[[0.0, 900.0]], [[1.0, 0.0]]])
    parts = confident_shares(logits, np.array([0]), [1.0, 1.0])
    assert parts[:, 0] == pytest.approx([0.0, 1.0])
    assert mixture(logits, parts)[0] == pytest.approx(log_softmax(logits[1, 0]))
