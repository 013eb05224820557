"""What the rooms above need to know of a kind of task, in one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from compress.artifacts import Standard
from compress.batch import Examples, Floats, Labels
from compress.tasks.measures import Measure

Scores = npt.NDArray[Any]


class TaskKind(ABC):
    """A kind of task on the data of one run.

    name: as in the recipe. labels: name of each of a model's outputs. positive: of two labels the one that counts as
    a match. standard: how number labels were standardised. two_texts: whether rows have a second text. metric: picks
    checkpoints and is reported first. measured: names of all that `measure` gives. grouped: whether measures and
    losses compare rows of a group, so that batches keep them together.
    """

    name: str
    labels: tuple[str, ...]
    positive: str | None = None
    standard: Standard | None = None
    two_texts: bool
    metric: Measure
    measured: tuple[str, ...]
    grouped: ClassVar[bool] = False

    @abstractmethod
    def scores(self, logits: Floats) -> Scores:
        """What measures take, [N, C], of a model's outputs float32 [N, C]."""

    def threshold(self, scores: Scores, rows: Examples) -> float | None:
        """The decision threshold that suits the scores of these labelled rows best; None for tasks without one."""
        return None

    @abstractmethod
    def measure(self, scores: Scores, rows: Examples, threshold: float | None = None) -> dict[str, float]:
        """Measures of scores against the rows' labels, the task's metric among them.

        Raises:
            ValueError: the rows have no labels.
        """

    @abstractmethod
    def described(self, train: Examples) -> str:
        """What answers are, in a few words, for the plan of a run."""

    def targets(self, labels: Labels) -> npt.NDArray[np.float32]:
        """What a model with one output shall answer to the rows of number labels [N], NaN where there is none."""
        raise TypeError(f"the labels {self.labels} are no numbers")


def labels_of(rows: Examples) -> Labels:
    """The labels of rows that must have some."""
    if rows.labels is None:
        raise ValueError("the rows have no labels")
    return rows.labels
