"""How a model's outputs are read as answers: labels with probabilities, or one number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from compress.artifacts import ModelSpec
from compress.decide import decide, in_unit, softmax
from compress.errors import IntegrityError

DECIMALS = 6
"""Digits after the point of probabilities in golden answers."""
SIGNIFICANT = 9
"""Digits of numbers in golden answers: all that a float32 holds."""
PROBABILITY_TOLERANCE = 0.02
"""Largest difference of a probability between machines. int8 kernels differ between processors: some add products
of 8-bit numbers in 16 bits and saturate, some in 32 bits. A label may differ only where the recorded answer was this
near to a threshold or a tie."""
SPREAD_TOLERANCE = 0.05
"""Largest difference of a number between machines, in standard deviations: of the training labels, or of the
recorded scores where an order is all that they mean."""
LARGEST = 1e300
"""Recorded numbers are smaller: differences of such are finite."""
ROUNDING = 1e-5
"""Difference that is allowed on top, as a share of the largest number."""


@dataclass(frozen=True)
class Answer:
    """One answer of a task with labels.

    score: probability of the spec's positive label where it has one, else of `label`; 0..1.
    probabilities: label -> 0..1, in the order of the model's outputs; they sum to 1.
    """

    id: str | None
    label: str
    score: float
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Score:
    """One answer of ranking or regression.

    score: for ranking, the higher the better the document suits the query, comparable only between documents of the
    same query; for regression the number in the unit of the labels.
    """

    id: str | None
    score: float


AnyAnswer: TypeAlias = Answer | Score
A = TypeVar("A")


class Reading(Protocol[A]):
    """One way of reading outputs; made from a model's spec."""

    def answers(self, ids: Sequence[str | None], logits: npt.NDArray[np.float32]) -> list[A]:
        """An answer for each row of logits, float32 [B, C]."""

    def recorded(self, fields: Mapping[str, Any]) -> A:
        """A golden answer from its JSON object.

        Raises:
            TypeError: other fields or values than an answer has.
        """

    def rounded(self, answer: A) -> A:
        """An answer as golden requests record it."""

    def compare(self, answers: Sequence[A], golden: Sequence[A]) -> tuple[int | None, dict[str, Any]]:
        """This machine's answers with golden ones: position of the first beyond the tolerance, and the figures.

        Figures always hold `requests` and `tolerance`.
        """

    def tolerance(self, scores: Sequence[float]) -> float:
        """Largest difference between machines of an answer's `score`, by the recorded ones."""

    def told(self, answer: A) -> str:
        """An answer in words, for messages."""


@dataclass(frozen=True)
class Labels:
    """Classification and pairs."""

    spec: ModelSpec

    def __post_init__(self) -> None:
        if self.spec.positive is not None and self.spec.positive not in self.spec.labels:
            labels = list(self.spec.labels)
            raise IntegrityError(f"the positive label {self.spec.positive!r} is not among the labels {labels}")

    @property
    def _positive(self) -> int | None:
        return None if self.spec.positive is None else self.spec.labels.index(self.spec.positive)

    def answers(self, ids: Sequence[str | None], logits: npt.NDArray[np.float32]) -> list[Answer]:
        probabilities = softmax(logits)
        chosen = decide(probabilities, self._positive, self.spec.threshold)
        return [self._answer(*row) for row in zip(ids, probabilities, chosen, strict=True)]

    def _answer(self, row_id: str | None, row: npt.NDArray[Any], chosen: np.int64) -> Answer:
        values = [float(value) for value in row]
        score = values[self._positive if self._positive is not None else int(chosen)]
        labels = self.spec.labels
        return Answer(row_id, labels[int(chosen)], score, dict(zip(labels, values, strict=True)))

    def recorded(self, fields: Mapping[str, Any]) -> Answer:
        answer, labels = Answer(**fields), set(self.spec.labels)
        known = isinstance(answer.probabilities, dict) and set(answer.probabilities) == labels
        if not known or not all(map(is_number, [answer.score, *answer.probabilities.values()])):
            raise TypeError("an answer has a score and a probability of each label, finite numbers")
        if answer.label not in self.spec.labels:
            raise TypeError("an answer's label is one of the model's")
        return answer

    def rounded(self, answer: Answer) -> Answer:
        probabilities = {label: round(value, DECIMALS) for label, value in answer.probabilities.items()}
        return replace(answer, score=round(answer.score, DECIMALS), probabilities=probabilities)

    def compare(self, answers: Sequence[Answer], golden: Sequence[Answer]) -> tuple[int | None, dict[str, Any]]:
        worst, mismatches, broken = 0.0, 0, None
        for position, (answer, wanted) in enumerate(zip(answers, golden, strict=True)):
            difference = _difference(answer, wanted)
            differs = answer.label != wanted.label
            if difference > PROBABILITY_TOLERANCE or (differs and not self._near(wanted, answer.label)):
                broken = position if broken is None else broken
            worst, mismatches = max(worst, difference), mismatches + differs
        return broken, {
            "requests": len(answers),
            "label_mismatches": mismatches,
            "max_probability_difference": worst,
            "tolerance": PROBABILITY_TOLERANCE,
        }

    def _near(self, golden: Answer, label: str) -> bool:
        """True when the recorded answer is within the tolerance of the threshold, or of a tie with `label`."""
        if self.spec.positive is not None and self.spec.threshold is not None:
            return abs(golden.probabilities[self.spec.positive] - self.spec.threshold) <= PROBABILITY_TOLERANCE
        return golden.probabilities[golden.label] - golden.probabilities[label] <= 2 * PROBABILITY_TOLERANCE

    def tolerance(self, scores: Sequence[float]) -> float:
        return PROBABILITY_TOLERANCE

    def told(self, answer: Answer) -> str:
        return f"with {answer.label!r}, score {answer.score:.4f}"


def _difference(answer: Answer, golden: Answer) -> float:
    if answer.probabilities.keys() != golden.probabilities.keys():
        return 1.0
    return max(abs(value - golden.probabilities[label]) for label, value in answer.probabilities.items())


@dataclass(frozen=True)
class Numbers:
    """Ranking and regression: the one output is the answer, in the unit of the labels where it was standardised."""

    spec: ModelSpec

    def answers(self, ids: Sequence[str | None], logits: npt.NDArray[np.float32]) -> list[Score]:
        standard = self.spec.standard
        values = logits[:, 0] if standard is None else in_unit(logits[:, 0], standard.mean, standard.std)
        return [Score(row_id, float(value)) for row_id, value in zip(ids, values, strict=True)]

    def recorded(self, fields: Mapping[str, Any]) -> Score:
        answer = Score(**fields)
        if not is_number(answer.score):
            raise TypeError("an answer has a score, a finite number")
        return answer

    def rounded(self, answer: Score) -> Score:
        return replace(answer, score=float(f"{answer.score:.{SIGNIFICANT}g}"))

    def compare(self, answers: Sequence[Score], golden: Sequence[Score]) -> tuple[int | None, dict[str, Any]]:
        wanted = np.array([answer.score for answer in golden])
        tolerance = self.tolerance([answer.score for answer in golden])
        differences = np.abs(np.array([answer.score for answer in answers]) - wanted)
        broken = np.flatnonzero(~(differences <= tolerance))
        figures = {"requests": len(answers), "max_score_difference": float(differences.max()), "tolerance": tolerance}
        return (int(broken[0]) if len(broken) else None), figures

    def tolerance(self, scores: Sequence[float]) -> float:
        wanted = np.array(scores)
        spread = float(wanted.std()) if self.spec.standard is None else self.spec.standard.std
        return SPREAD_TOLERANCE * spread + ROUNDING * max(1.0, float(np.abs(wanted).max()))

    def told(self, answer: Score) -> str:
        return f"with {answer.score:.6g}"


def is_number(value: Any) -> bool:
    """True for numbers whose differences are finite."""
    return isinstance(value, int | float) and abs(value) < LARGEST


READINGS: dict[str, Callable[[ModelSpec], Reading[Any]]] = {
    "classification": Labels,
    "pairs": Labels,
    "ranking": Numbers,
    "regression": Numbers,
}


def reading_of(spec: ModelSpec) -> Reading[Any]:
    """How a model's outputs are read.

    Raises:
        IntegrityError: its kind of task is unknown, or its positive label is none of its labels.
    """
    if spec.task not in READINGS:
        raise IntegrityError(f"the model's task is {spec.task!r}, known are {', '.join(READINGS)}: a newer kdc made it")
    return READINGS[spec.task](spec)
