"""What the outputs of a model are compared with, for each kind of task: labels, and what the teacher said."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from compress.batch import Examples, Ints
from compress.distill.losses import DIVERGENCES, binary_grades, confidence, hard_labels, squared_error
from compress.distill.ranking_losses import AGAINST_GRADES, AGAINST_TEACHER, lists_of
from compress.distill.weighting import Parts, Settings
from compress.tasks.kind import TaskKind
from compress.tasks.kinds import RankingKind, RegressionKind


class Objectives(ABC):
    """The losses of a kind of task on the rows of one data set; `picked` are the rows of a step, int64 [B].

    Raises:
        ValueError: the rows have no labels.
    """

    def __init__(self, rows: Examples, device: torch.device) -> None:
        if rows.labels is None:
            raise ValueError("the training rows have no labels")
        self.device = device
        self.weights = None if rows.weights is None else torch.from_numpy(rows.weights).to(device)

    def _chosen(self, picked: Ints) -> tuple[Tensor, Tensor | None]:
        """The picked rows as a tensor, and their weights."""
        chosen = torch.from_numpy(picked).to(self.device)
        return chosen, None if self.weights is None else self.weights[chosen]

    @abstractmethod
    def hard(self, logits: Tensor, picked: Ints, smoothing: float = 0.0) -> Tensor:
        """Loss of logits [B, C] against the labels; 0 when no row has one. smoothing: of labels, where there are."""

    @abstractmethod
    def soft(self, logits: Tensor, said: Tensor, picked: Ints, now: Settings) -> Parts:
        """Terms against the teacher's logits [B, C], each where it has a weight."""


class LabelObjectives(Objectives):
    """Classification and pairs: cross-entropy, KL and its relatives."""

    def __init__(self, rows: Examples, device: torch.device) -> None:
        super().__init__(rows, device)
        self.labels = torch.from_numpy(rows.labels).to(device)

    def hard(self, logits: Tensor, picked: Ints, smoothing: float = 0.0) -> Tensor:
        chosen, weights = self._chosen(picked)
        return hard_labels(logits, self.labels[chosen], weights, smoothing)

    def soft(self, logits: Tensor, said: Tensor, picked: Ints, now: Settings) -> Parts:
        weights = confidence(said, self.labels[self._chosen(picked)[0]]) if now.confidence else None
        terms = [name for name in DIVERGENCES if name in now.weights]
        return {name: DIVERGENCES[name](logits, said, now.temperature, weights) for name in terms}


class NumberObjectives(Objectives):
    """Regression, and what ranking shares with it: squared errors of the one output."""

    def __init__(self, kind: RegressionKind | RankingKind, rows: Examples, device: torch.device) -> None:
        super().__init__(rows, device)
        self.targets = torch.from_numpy(kind.targets(cast(Any, rows.labels))).to(device)

    def hard(self, logits: Tensor, picked: Ints, smoothing: float = 0.0) -> Tensor:
        chosen, weights = self._chosen(picked)
        return squared_error(logits[:, 0], self.targets[chosen], weights)

    def soft(self, logits: Tensor, said: Tensor, picked: Ints, now: Settings) -> Parts:
        return {"soft": squared_error(logits[:, 0], said[:, 0])} if "soft" in now.weights else {}


class RankingObjectives(NumberObjectives):
    """Ranking: rows of a group are compared with each other."""

    def __init__(self, kind: RankingKind, rows: Examples, device: torch.device) -> None:
        super().__init__(kind, rows, device)
        self.loss = kind.loss
        self.groups = torch.from_numpy(cast(Ints, rows.group_codes)).to(device)
        self.highest = float(np.nanmax(cast(Any, rows.labels)))

    def hard(self, logits: Tensor, picked: Ints, smoothing: float = 0.0) -> Tensor:
        chosen, _ = self._chosen(picked)
        grades = self.targets[chosen]
        if self.loss == "pointwise":
            return binary_grades(logits[:, 0], grades / self.highest)
        rows, mask = lists_of(self.groups[chosen])
        return AGAINST_GRADES[self.loss](logits[rows, 0], grades[rows].nan_to_num(), mask & ~grades[rows].isnan())

    def soft(self, logits: Tensor, said: Tensor, picked: Ints, now: Settings) -> Parts:
        parts = super().soft(logits, said, picked, now)
        rows, mask = lists_of(self.groups[self._chosen(picked)[0]])
        for name in [name for name in AGAINST_TEACHER if name in now.weights]:
            parts[name] = AGAINST_TEACHER[name](logits[rows, 0], said[rows, 0], mask, now.temperature)
        return parts


OBJECTIVES: dict[str, Callable[[Any, Examples, torch.device], Objectives]] = {
    "classification": lambda kind, rows, device: LabelObjectives(rows, device),
    "pairs": lambda kind, rows, device: LabelObjectives(rows, device),
    "ranking": RankingObjectives,
    "regression": NumberObjectives,
}


def objectives_of(kind: TaskKind, rows: Examples, device: torch.device) -> Objectives:
    """The losses of a kind of task on some rows."""
    return OBJECTIVES[kind.name](kind, rows, device)
