"""How much the terms of a stage count, step by step: constant, over a schedule, or learned.

Temperatures that fall over the training: Annealing Knowledge Distillation, Jafari et al. 2021
(https://arxiv.org/abs/2104.07163); half a cosine: SGDR, Loshchilov and Hutter 2017 (https://arxiv.org/abs/1608.03983).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compress.recipe import Distill, Schedule, Stage

Parts = dict[str, Tensor]
"""Values by name: loss terms, and what is logged beside them."""


@dataclass(frozen=True)
class Settings:
    """A stage at one of its steps: weights by term, those without one left out; temperature; rows by confidence."""

    weights: dict[str, float]
    temperature: float
    confidence: bool = False


def settings_at(stage: Stage, share: float) -> Settings:
    """The settings of a stage, from its first step (share 0) to its last (1)."""
    weights = {name: value_at(weight, share) for name, weight in stage.losses.terms.items()}
    return Settings(weights, value_at(stage.temperature, share), stage.confidence)


def value_at(setting: float | Schedule, share: float) -> float:
    """A number, or the value of a schedule at a share, 0..1, of its stage."""
    if not isinstance(setting, Schedule):
        return setting
    way = share if setting.shape == "linear" else (1 - math.cos(math.pi * share)) / 2
    return (1 - way) * setting.from_ + way * setting.to


def moves(section: Distill) -> bool:
    """Whether weights or temperature change within a stage, so that the log has to say what they were."""
    scheduled = any(
        isinstance(setting, Schedule)
        for stage in section.stages
        for setting in (stage.temperature, *stage.losses.terms.values())
    )
    return scheduled or any(stage.weighting == "uncertainty" for stage in section.stages)


class Uncertainty(nn.Module):
    """Σ exp(−s)·w·L + s over the terms L with the recipe's weights w; s, the log of a variance, is learned from 0.

    Twice ½·exp(−s)·L + ½·s of Kendall et al. 2018 (https://arxiv.org/abs/1705.07115), so that it begins as the sum with
    the recipe's weights. It ends where each exp(−s)·w·L is about 1: a term that stays large counts less, one that
    becomes small counts more. w·exp(−s) is a term's weight at the moment.
    """

    def __init__(self, terms: Iterable[str]) -> None:
        super().__init__()
        self.log_variances = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in terms})

    def forward(self, weighted: Parts) -> Tensor:
        """Terms times their weights in the recipe, a scalar each -> scalar."""
        each = [
            torch.exp(-self.log_variances[name]) * term + self.log_variances[name] for name, term in weighted.items()
        ]
        return torch.stack(each).sum()

    def factors(self) -> dict[str, float]:
        """exp(−s) by term."""
        return {name: math.exp(-value.item()) for name, value in self.log_variances.items()}
