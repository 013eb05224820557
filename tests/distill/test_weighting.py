"""Weights and temperature over a stage: schedules, and weights that are learned."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from compress.distill.weighting import Settings, Uncertainty, moves, settings_at, value_at
from compress.recipe import Distill, Losses, Schedule, Stage, TemperatureSchedule


def schedule(start: float, end: float, shape: str = "linear") -> Schedule:
    return Schedule.model_validate({"from": start, "to": end, "shape": shape})


@pytest.mark.parametrize(("shape", "quarter"), [("linear", 4.0 - 0.75), ("cosine", 4.0 - 3 * (1 - math.sqrt(0.5)) / 2)])
def test_schedules_at_start_quarter_middle_and_end(shape: str, quarter: float) -> None:
    """From 4 to 1: both are half way in the middle, the cosine is slower at first."""
    falling = schedule(4.0, 1.0, shape)
    assert (value_at(falling, 0.0), value_at(falling, 1.0)) == (4.0, 1.0)
    assert value_at(falling, 0.25) == pytest.approx(quarter, rel=1e-12)
    assert value_at(falling, 0.5) == pytest.approx(2.5, rel=1e-12)
    ways = [value_at(falling, share) for share in np.linspace(0, 1, 50)]
    assert ways == sorted(ways, reverse=True)
    assert value_at(0.3, 0.9) == 0.3


def test_a_cosine_is_that_of_torch() -> None:
    """CosineAnnealingLR from 4 to 1 in 10 steps."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=4.0)
    annealed = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10, eta_min=1.0)
    for step in range(11):
        assert value_at(schedule(4.0, 1.0, "cosine"), step / 10) == pytest.approx(annealed.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        annealed.step()


def test_the_settings_of_a_stage() -> None:
    heat = TemperatureSchedule.model_validate({"from": 8, "to": 2})
    stage = Stage(name="x", temperature=heat, losses=Losses(soft=1, hidden=schedule(0, 0.4), hard=0.2), confidence=True)
    assert settings_at(stage, 0.5) == Settings({"soft": 1.0, "hidden": 0.2, "hard": 0.2}, 5.0, confidence=True)
    assert settings_at(stage, 0.0).weights["hidden"] == 0
    assert settings_at(Stage(name="x"), 0.7) == Settings({"soft": 1.0}, 2.0)


def test_what_moves() -> None:
    """Only then does the log of a training say what weights and temperature were."""
    fixed = Stage(name="x", temperature=4)
    heated = fixed.model_copy(update={"temperature": TemperatureSchedule.model_validate({"from": 4, "to": 1})})
    learned = Stage(name="x", losses=Losses(soft=1, hard=1), weighting="uncertainty")
    assert not moves(Distill(stages=(fixed, Stage(name="y", temperature=1))))
    assert moves(Distill(stages=(fixed, heated)))
    assert moves(Distill(stages=(fixed, learned)))
    assert moves(Distill(stages=(Stage(name="x", losses=Losses(soft=schedule(1, 0.5))),)))


def test_uncertainty_by_hand() -> None:
    """exp(−s)·L + s: at the start the plain sum; its gradients; twice Kendall's form with σ² = exp(s)."""
    balance = Uncertainty(["soft", "hard"])
    terms = {"soft": torch.tensor(0.5, requires_grad=True), "hard": torch.tensor(3.0)}
    loss = balance(terms)
    assert loss.item() == pytest.approx(3.5)
    loss.backward()
    assert balance.log_variances["soft"].grad.item() == pytest.approx(1 - 0.5)
    assert balance.log_variances["hard"].grad.item() == pytest.approx(1 - 3.0)
    with torch.no_grad():
        balance.log_variances["soft"].fill_(math.log(0.25))
        balance.log_variances["hard"].fill_(math.log(4.0))
    kendall = 0.5 / (2 * 0.25) + math.log(math.sqrt(0.25)) + 3 / (2 * 4.0) + math.log(math.sqrt(4.0))
    loss = balance(terms)
    assert loss.item() == pytest.approx(2 * kendall, rel=1e-6)
    (pull,) = torch.autograd.grad(loss, terms["soft"])
    assert pull.item() == pytest.approx(4.0)
    assert balance.factors() == {"soft": pytest.approx(4.0), "hard": pytest.approx(0.25)}


def test_uncertainty_comes_to_rest_where_every_term_counts_one() -> None:
    balance = Uncertainty(["soft", "hidden"])
    optimizer = torch.optim.Adam(balance.parameters(), lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        balance({"soft": torch.tensor(0.2), "hidden": torch.tensor(30.0)}).backward()
        optimizer.step()
    assert balance.factors() == {"soft": pytest.approx(5.0, rel=5e-3), "hidden": pytest.approx(1 / 30, rel=5e-3)}
