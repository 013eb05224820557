"""Measures of quality by name: which direction is better, in which range, and what that means for comparisons."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Measure:
    """One measure; values lie in low..high."""

    name: str
    higher_is_better: bool = True
    low: float = 0.0
    high: float = 1.0

    def better(self, value: float, than: float | None) -> bool:
        """Whether a value is better than another, or than none."""
        return than is None or self.gain(value, than) > 0

    def gain(self, value: float, over: float) -> float:
        """How much better a value is than another, in the measure's unit; negative where it is worse."""
        return value - over if self.higher_is_better else over - value

    def loss(self, before: float, after: float) -> float:
        """Quality lost from `before` to `after`: the difference; of errors, which have a unit, its share of `before`.

        Negative where quality was gained; 1 where an error of 0 grew.
        """
        lost = self.gain(before, after)
        if math.isfinite(self.high):
            return lost
        return lost / before if before else float(lost > 0)

    def retention(self, value: float, reference: float) -> float | None:
        """Share of a reference's quality, 1 where both are equal: value ÷ reference, for errors reference ÷ value.

        None where there is no such share: the reference, or the error that is divided by, is not above 0.
        """
        above, below = (value, reference) if self.higher_is_better else (reference, value)
        return above / below if below > 0 else None

    @property
    def in_points(self) -> bool:
        """Whether differences are told in points of a hundred: for ranges of known width."""
        return math.isfinite(self.high)


def _error(name: str) -> Measure:
    return Measure(name, higher_is_better=False, high=math.inf)


MEASURES = {
    measure.name: measure
    for measure in (
        *map(Measure, ("accuracy", "precision", "recall", "f1", "macro_f1", "weighted_f1", "auc")),
        *map(Measure, ("ndcg", "mrr", "map")),
        *map(_error, ("rmse", "mae")),
        Measure("spearman", low=-1.0),
    )
}


def measure_named(name: str) -> Measure:
    """The measure of a metric's name; what follows an `@` is a cut-off. Of an unknown one higher is better, up to 1."""
    return replace(MEASURES.get(name.partition("@")[0], Measure(name)), name=name)
