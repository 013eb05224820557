"""The certificate: what each model says beside the one that it was made from, in whole and by slice, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.batch import Examples, Floats, Ints, codes_of
from compress.certificate.interval import CONFIDENCE, RESAMPLES, interval, resampled
from compress.certificate.slices import Slice
from compress.certificate.weighted import weighted_measure
from compress.export.parity import agreement
from compress.tasks.kind import TaskKind, labels_of
from compress.tasks.kinds import LabelKind, RankingKind
from compress.tasks.measures import Measure, measure_named
from compress.tasks.number_metrics import spearman
from compress.teachers.calibration import calibration_error

LEAST = 20
"""Rows (for ranking: groups with a relevant row) of a slice that is judged."""
FACTOR = 2.0
"""A slice is flagged when it loses more than this many times what the whole loses, beyond noise."""
OF_TRUTH = "accuracy"
"""Measure of slices that their label picked: there it is the recall of their labels, and precision means nothing."""


@dataclass(frozen=True)
class Answers:
    """One model's answers to the test rows: logits float32 [N, C], and its decision threshold."""

    logits: Floats
    threshold: float | None = None


@dataclass(frozen=True)
class Pair:
    """A model and what it is compared with; role: `parent`, from which it was made, or `teacher`."""

    model: str
    reference: str
    role: str


def certify(
    kind: TaskKind,
    rows: Examples,
    said: Mapping[str, Answers],
    pairs: Sequence[Pair],
    slices: Sequence[Slice],
    seed: int,
) -> dict[str, Any]:
    """Compare models on the N test rows.

    Returns:
        metric, higher_is_better, rows, differences_in (what max_ and mean_difference are told in), confidence,
        resamples, seed, least_rows, slice_factor, and `comparisons`: of each pair model, reference, role, `whole` and
        `slices`. Whole and slices have rows; metric {name, reference, model, difference = model − reference, low,
        high}, or null where it is not defined; max_difference and mean_difference, absolute; for labels
        argmax_agreement, calibration_error and that of the reference (0..1); for ranking groups, ndcg_change and
        top_k_overlap; for regression spearman of the two. Slices have by, value and status: `ok`, `flagged`,
        `too small` (rows alone) or `not measured` (no metric).

    Raises:
        KdcError: the models do not answer the same rows and labels, or a logit is not finite.
    """
    for pair in pairs:
        agreement(said[pair.reference].logits, said[pair.model].logits)
    every = Slice("whole", "", np.arange(len(rows)))
    measures = [kind.metric.name, *([OF_TRUTH] if any(each.by_truth for each in slices) else [])]
    whole = {name: _Measured(kind, name, rows, said, every, seed) for name in measures}
    parts = [_part(kind, rows, said, each, seed) for each in slices]
    return {
        "metric": kind.metric.name,
        "higher_is_better": kind.metric.higher_is_better,
        "rows": len(rows),
        "differences_in": DIFFERENCES_IN[kind.name],
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "seed": seed,
        "least_rows": LEAST,
        "slice_factor": FACTOR,
        "comparisons": [
            {
                "model": pair.model,
                "reference": pair.reference,
                "role": pair.role,
                "whole": whole[kind.metric.name].figures(pair),
                "slices": [_told(pair, each, part, whole) for each, part in zip(slices, parts, strict=True)],
            }
            for pair in pairs
        ],
    }


DIFFERENCES_IN = {
    "classification": "logits",
    "pairs": "logits",
    "ranking": "scores",
    "regression": "the label's unit",
}


class _Measured:
    """All models on the rows of a slice."""

    def __init__(
        self, kind: TaskKind, metric: str, rows: Examples, said: Mapping[str, Answers], part: Slice, seed: int
    ) -> None:
        self.kind, self.metric, self.rows = kind, metric, rows.take(part.rows)
        self.logits = {name: each.logits[part.rows] for name, each in said.items()}
        thresholds = [each.threshold for each in said.values()]
        self.place = {name: at for at, name in enumerate(said)}
        measure = weighted_measure(kind, metric, list(self.logits.values()), thresholds, self.rows)
        self.plain = None if measure is None else measure.plain
        self.drawn = None if measure is None else resampled(measure, seed)

    def figures(self, pair: Pair) -> dict[str, Any]:
        """What there is to say of a pair."""
        reference, model = (self.logits[name] for name in (pair.reference, pair.model))
        apart = np.abs(self._shown(model) - self._shown(reference))
        return {
            "rows": len(self.rows),
            "metric": self.compared(pair),
            "max_difference": float(apart.max()),
            "mean_difference": float(apart.mean()),
            **self._of_kind(reference, model),
        }

    def compared(self, pair: Pair) -> dict[str, Any] | None:
        """The measure of both, and the interval of its difference."""
        if self.plain is None or self.drawn is None:
            return None
        reference, model = (self.place[name] for name in (pair.reference, pair.model))
        bounds = interval(self.drawn[model] - self.drawn[reference])
        if bounds is None or not np.isfinite(self.plain[[reference, model]]).all():
            return None
        return {
            "name": self.metric,
            "reference": float(self.plain[reference]),
            "model": float(self.plain[model]),
            "difference": float(self.plain[model] - self.plain[reference]),
            "low": bounds[0],
            "high": bounds[1],
        }

    def _shown(self, logits: Floats) -> npt.NDArray[Any]:
        """What differences are told in: logits, scores, or numbers in the labels' unit."""
        return np.asarray(logits if isinstance(self.kind, LabelKind) else self.kind.scores(logits), np.float64)

    def _of_kind(self, reference: Floats, model: Floats) -> dict[str, Any]:
        if isinstance(self.kind, LabelKind):
            labels = labels_of(self.rows).astype(np.int64)
            ours, theirs = (calibration_error(self.kind.scores(each), labels) for each in (model, reference))
            same = float((reference.argmax(1) == model.argmax(1)).mean())
            return {"argmax_agreement": same, "calibration_error": ours, "reference_calibration_error": theirs}
        if isinstance(self.kind, RankingKind):
            return self._order(self.kind, reference[:, 0], model[:, 0])
        return {"spearman": spearman(reference[:, 0], model[:, 0])}

    def _order(self, kind: RankingKind, reference: Floats, model: Floats) -> dict[str, Any]:
        groups, ids = list(self.rows.groups or ()), list(self.rows.ids)
        overlap = top_overlap(reference, model, groups, ids, kind.cutoff)
        found: dict[str, Any] = {"groups": len(set(groups)), "top_k": kind.cutoff, "top_k_overlap": overlap}
        ndcg = weighted_measure(kind, f"ndcg@{kind.cutoff}", [reference[:, None], model[:, None]], [], self.rows)
        before, after = (None, None) if ndcg is None else ndcg.plain
        return found | {"ndcg_change": None if before is None or after is None else float(after - before)}


def top_overlap(one: Floats, other: Floats, groups: Sequence[str], ids: Sequence[str], k: int) -> float:
    """Mean over groups of the share of the k rows of highest score that two scorings have in common, 0..1.

    Of a group with fewer rows, its rows count for k. Rows of equal score stand in descending order of their ids, as for
    the metrics.
    """
    codes = codes_of(groups)
    sizes = np.bincount(codes)
    starts, places = np.cumsum(sizes) - sizes, -codes_of(ids)

    def first(scores: Floats) -> npt.NDArray[np.bool_]:
        order = np.lexsort((places, -scores, codes))
        rank = np.empty(len(codes), np.int64)
        rank[order] = np.arange(len(codes)) - starts[codes[order]]
        return np.asarray(rank < k)

    shared = np.bincount(codes, first(one) & first(other))
    return float((shared / np.minimum(sizes, k)).mean())


def _part(kind: TaskKind, rows: Examples, said: Mapping[str, Answers], part: Slice, seed: int) -> _Measured | None:
    """A slice measured; None where it is too small."""
    if _units(kind, rows, part.rows) < LEAST:
        return None
    return _Measured(kind, OF_TRUTH if part.by_truth else kind.metric.name, rows, said, part, seed)


def _units(kind: TaskKind, rows: Examples, numbers: Ints) -> int:
    """How many independent things a slice holds: rows, or groups that are measured."""
    if not kind.grouped:
        return len(numbers)
    own = rows.take(numbers)
    groups = list(own.groups or ())
    return len({groups[row] for row in np.flatnonzero(labels_of(own) > 0)})


def _told(pair: Pair, part: Slice, measured: _Measured | None, whole: Mapping[str, _Measured]) -> dict[str, Any]:
    head = {"by": part.by, "value": part.value}
    if measured is None:
        return head | {"rows": len(part.rows), "status": "too small"}
    figures = measured.figures(pair)
    own, all_rows = figures["metric"], whole[measured.metric].compared(pair)
    if own is None or all_rows is None:
        return head | {"status": "not measured"} | figures
    loses = loses_more(measure_named(measured.metric), own, all_rows)
    return head | {"status": "flagged" if loses else "ok"} | figures


def loses_more(measure: Measure, part: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    """Whether a slice loses more than FACTOR times what the whole loses, by `metric` figures of both.

    Its interval must lie beyond the whole's loss, and beyond 0 where the whole gained. Of 40 slices that lose what the
    whole loses, about one is flagged by chance.
    """
    lost, all_lost = (measure.gain(each["reference"], each["model"]) for each in (part, whole))
    surely = -part["high"] if measure.higher_is_better else part["low"]
    return bool(lost > FACTOR * max(all_lost, 0.0) and surely > max(all_lost, 0.0))
