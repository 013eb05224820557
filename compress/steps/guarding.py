"""What the guard of quantization measures: the task's metric where there are labels, agreement with float elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from compress.batch import Floats
from compress.certificate.interval import interval, resampled
from compress.certificate.weighted import Means, RankCorrelation, Weighted, weighted_measure
from compress.quantize.guard import Loss
from compress.runtime.predictor import Predictor, Request
from compress.steps.context import Run


def metric_loss(run: Run, before: Floats, ask: Callable[[Path], Floats]) -> Callable[[Path], Loss]:
    """The loss of the task's metric on validation against the float model's logits `before`, float32 [N, C].

    Each model answers with its own threshold. The interval is a paired bootstrap over rows (for ranking, groups).
    ask: a folder's logits on validation.
    """
    measure, rows = run.judge.kind.metric, run.splits.validation
    own = run.judge.threshold(before)
    reference = run.judge.measure(before, "validation", own)[measure.name]

    def loss(folder: Path) -> Loss:
        after = ask(folder)
        threshold = run.judge.threshold(after)
        value = measure.loss(reference, run.judge.measure(after, "validation", threshold)[measure.name])
        weighted = weighted_measure(run.judge.kind, measure.name, [before, after], [own, threshold], rows)
        return _with_interval(value, weighted, after, run.recipe.seed, measure.loss)

    return loss


def agreement_loss(requests: Sequence[Request], before: Floats, seed: int) -> Callable[[Path], Loss]:
    """Without labels: 1 - share of the requests that get the float model's first label.

    For models of one output 1 - Spearman's correlation of their scores with the float model's.

    Args:
        before: the float model's logits on the requests, float32 [N, C].
    """

    def loss(folder: Path) -> Loss:
        after = Predictor.from_folder(folder).logits(requests)
        weighted: Weighted
        if before.shape[1] == 1:
            weighted = RankCorrelation(np.stack([before[:, 0], after[:, 0]]), before[:, 0])
        else:
            same = before.argmax(axis=1) == after.argmax(axis=1)
            weighted = Means(np.stack([np.ones(len(same)), same]))
        reference, value = weighted.plain
        return _with_interval(float(reference - value), weighted, after, seed, lambda one, other: one - other)

    return loss


def agreement_measured(before: Floats, rows: int) -> str:
    """What `agreement_loss` is, as part of a sentence."""
    what = "rank correlation of the scores" if before.shape[1] == 1 else "agreement of the first label"
    return f"{what} with the float model on {rows:,} requests without labels"


def _with_interval(
    value: float, weighted: Weighted | None, answers: Floats, seed: int, difference: Callable[[float, float], float]
) -> Loss:
    bounds = None
    if weighted is not None:
        drawn = resampled(weighted, seed)
        bounds = interval(np.array([difference(one, other) for one, other in drawn.T.tolist()]))
    low, high = (None, None) if bounds is None else bounds
    return Loss(value, low, high, answers)
