"""The figures of a certificate by hand and against scikit-learn; which slices are flagged."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score, ndcg_score, root_mean_squared_error

from compress.batch import Examples, Splits
from compress.certificate.compare import FACTOR, LEAST, Answers, Pair, certify, loses_more, top_overlap
from compress.certificate.slices import Slice
from compress.commands.certificate import comparison_table
from compress.errors import KdcError
from compress.recipe import PairsTask
from compress.tables import print_whole
from compress.tasks.kinds import task_kind
from compress.tasks.measures import measure_named
from tests.certificate.test_slices import kind_of
from tests.certificate.test_weighted import drawn, rows_of

PAIR = Pair("shipped", "exported", "parent")


def logits_of(said: np.ndarray, confidence: np.ndarray | float = 0.9) -> np.ndarray:
    """Logits of two classes whose softmax gives what is said a probability."""
    sure = np.log(np.asarray(confidence) / (1 - np.asarray(confidence)))
    found = np.zeros((len(said), 2), np.float32)
    found[np.arange(len(said)), said] = sure
    return found


def compared(kind: Any, rows: Examples, before: np.ndarray, after: np.ndarray, *slices: Slice) -> dict[str, Any]:
    said = {"shipped": Answers(after), "exported": Answers(before)}
    found = certify(kind, rows, said, [PAIR], slices, seed=7)
    json.dumps(found, allow_nan=False)  # stands in manifest.json and summary.json
    each: dict[str, Any] = found["comparisons"][0]
    assert (each["model"], each["reference"], each["role"]) == ("shipped", "exported", "parent")
    return each


def test_figures_of_labels() -> None:
    truth = np.array([0, 1] * 50)
    rows = rows_of("classification", truth)
    kind = kind_of("classification", rows, ("a", "b"))
    said = truth.copy()
    said[:10] = 1 - truth[:10]
    whole = compared(kind, rows, logits_of(truth, 0.9), logits_of(said, 0.9))["whole"]
    metric = whole["metric"]
    assert (metric["name"], metric["reference"]) == ("macro_f1", 1.0)
    assert metric["model"] == pytest.approx(f1_score(truth, said, average="macro"))
    assert metric["difference"] == pytest.approx(metric["model"] - 1.0)
    assert metric["low"] < metric["difference"] < metric["high"] < 0
    assert whole["argmax_agreement"] == 0.9
    assert whole["max_difference"] == pytest.approx(np.log(9), rel=1e-6)
    assert whole["mean_difference"] == pytest.approx(0.1 * np.log(9), rel=1e-6)
    # one bin: 90% sure and 90% right, 90% sure and 100% right
    assert whole["calibration_error"] == pytest.approx(0.0, abs=1e-6)
    assert whole["reference_calibration_error"] == pytest.approx(0.1, abs=1e-6)
    assert whole["rows"] == 100


def test_each_model_answers_with_its_own_threshold() -> None:
    kind, rows, logits = drawn("pairs")
    said = {"shipped": Answers(logits[0], 0.2), "exported": Answers(logits[1], 0.7)}
    metric = certify(kind, rows, said, [PAIR], [], seed=1)["comparisons"][0]["whole"]["metric"]
    assert metric["model"] == pytest.approx(kind.measure(kind.scores(logits[0]), rows, 0.2)["f1"])
    assert metric["reference"] == pytest.approx(kind.measure(kind.scores(logits[1]), rows, 0.7)["f1"])


def test_figures_of_a_ranking() -> None:
    kind, rows, (before, after) = drawn("ranking")
    before, after = (np.random.default_rng(seed).normal(size=before.shape).astype(np.float32) for seed in (1, 2))
    whole = compared(kind, rows, before, after)["whole"]
    grades, both = np.asarray(rows.labels).reshape(-1, 5), (before.reshape(-1, 5), after.reshape(-1, 5))
    judged = (grades > 0).any(1)
    old, new = (ndcg_score(grades[judged], each[judged], k=3) for each in both)
    assert whole["ndcg_change"] == pytest.approx(new - old)
    assert whole["metric"]["difference"] == pytest.approx(new - old)
    firsts = zip(*(np.argsort(-each, axis=1)[:, :3] for each in both), strict=True)
    assert whole["top_k_overlap"] == pytest.approx(np.mean([len(set(a) & set(b)) / 3 for a, b in firsts]))
    assert (whole["groups"], whole["top_k"], whole["rows"]) == (12, 3, 60)
    assert "argmax_agreement" not in whole


def test_the_overlap_of_groups_shorter_than_k() -> None:
    """Group a: {0, 1} and {0, 2} of three rows; group b has one row, which both have first."""
    groups, ids = ["a", "b", "a", "a"], ["0", "9", "1", "2"]
    one, other = np.array([3, 0, 2, 1], np.float32), np.array([3, 0, 1, 2], np.float32)
    assert top_overlap(one, other, groups, ids, 2) == pytest.approx((0.5 + 1) / 2)
    assert top_overlap(one, one, groups, ids, 10) == 1.0


def test_figures_of_a_regression_are_in_the_labels_unit() -> None:
    truth = np.random.default_rng(3).normal(50, 20, 60)
    rows = rows_of("regression", truth)
    kind = kind_of("regression", rows)
    before = ((truth - truth.mean()) / truth.std()).astype(np.float32)[:, None]
    after = before.copy()
    after[::2] += 0.5
    whole = compared(kind, rows, before, after)["whole"]
    assert whole["max_difference"] == pytest.approx(0.5 * truth.std(), rel=1e-4)
    assert whole["mean_difference"] == pytest.approx(0.25 * truth.std(), rel=1e-4)
    said = after[:, 0] * truth.std() + truth.mean()
    assert whole["metric"]["model"] == pytest.approx(root_mean_squared_error(truth, said), rel=1e-4)
    assert whole["metric"]["reference"] == pytest.approx(0.0, abs=1e-4)
    assert whole["metric"]["low"] > 0  # an error that grew
    assert whole["spearman"] == pytest.approx(stats.spearmanr(before[:, 0], after[:, 0]).statistic)


# ---------------------------------------------------------------- slices


def test_a_slice_that_loses_more_than_the_whole_is_flagged() -> None:
    """Of 200 rows 30 are of a brand on which the shipped model fails; on the others it fails as the parent does."""
    truth = np.tile([0, 1], 100)
    rows = rows_of("classification", truth)
    kind = kind_of("classification", rows, ("a", "b"))
    before = truth.copy()
    before[100:120] = 1 - before[100:120]
    after = before.copy()
    after[:20] = 1 - truth[:20]
    bad, fine, few = np.arange(30), np.arange(30, 200), np.arange(LEAST - 1)
    slices = [Slice("column brand", name, own) for name, own in (("bad", bad), ("fine", fine), ("few", few))]
    found = compared(kind, rows, logits_of(before), logits_of(after), *slices)["slices"]
    assert [(each["value"], each["rows"], each["status"]) for each in found] == [
        ("bad", 30, "flagged"),
        ("fine", 170, "ok"),
        ("few", 19, "too small"),
    ]
    assert found[0]["metric"]["reference"] == 1.0
    assert found[0]["argmax_agreement"] == pytest.approx(1 / 3)
    assert "metric" not in found[2]


def test_slices_of_a_label_are_measured_by_its_recall() -> None:
    truth = np.array([0] * 40 + [1] * 40)
    rows = rows_of("pairs", truth)
    kind = kind_of("pairs", rows, ("0", "1"))
    after = truth.copy()
    after[:10] = 1
    slices = [Slice("label", name, np.flatnonzero(truth == number), by_truth=True) for number, name in enumerate("01")]
    found = compared(kind, rows, logits_of(truth), logits_of(after), *slices)
    assert found["whole"]["metric"]["name"] == "f1"
    assert [each["metric"]["name"] for each in found["slices"]] == ["accuracy", "accuracy"]
    assert [each["metric"]["model"] for each in found["slices"]] == [0.75, 1.0]
    assert [each["status"] for each in found["slices"]] == ["ok", "ok"]  # 25 points are not twice the whole's 12.5


def test_what_a_measure_is_not_defined_on_is_not_measured() -> None:
    truth = np.tile([0, 1], 30)
    rows = rows_of("pairs", truth)
    kind = task_kind(PairsTask(kind="pairs", metric="auc"), Splits(rows, rows, rows, None, ("0", "1"), ""))
    own = Slice("column brand", "matches alone", np.flatnonzero(truth == 1))
    found = compared(kind, rows, logits_of(truth), logits_of(truth), own)["slices"][0]
    assert (found["status"], found["metric"], found["argmax_agreement"]) == ("not measured", None, 1.0)


def test_groups_not_rows_make_a_slice_of_a_ranking_large_enough() -> None:
    kind, rows, (before, after) = drawn("ranking")
    found = compared(kind, rows, before, after, Slice("length", "all", np.arange(60)))["slices"]
    assert found == [{"by": "length", "value": "all", "rows": 60, "status": "too small"}]  # 12 groups


@pytest.mark.parametrize(
    ("metric", "reference", "model", "low", "high", "flagged"),
    [
        ("f1", 0.90, 0.80, -0.14, -0.06, True),  # 10 points, the whole lost 2
        ("f1", 0.90, 0.87, -0.029, -0.021, False),  # beyond the whole's loss, but not FACTOR times
        ("f1", 0.90, 0.80, -0.19, -0.01, False),  # the interval holds the whole's loss
        ("f1", 0.80, 0.90, 0.06, 0.14, False),
        ("rmse", 1.0, 1.1, 0.06, 0.14, True),
        ("rmse", 1.1, 1.0, -0.14, -0.06, False),
    ],
)
def test_the_rule_for_flags(
    metric: str, reference: float, model: float, low: float, high: float, flagged: bool
) -> None:
    assert FACTOR == 2.0
    part = {"reference": reference, "model": model, "low": low, "high": high}
    measure = measure_named(metric)
    whole = {"reference": 0.9, "model": 0.88} if measure.higher_is_better else {"reference": 0.9, "model": 0.92}
    assert loses_more(measure, part, whole) is flagged


def test_where_the_whole_gained_a_slice_must_lose_beyond_noise() -> None:
    whole = {"reference": 0.8, "model": 0.85}
    uncertain = {"reference": 0.8, "model": 0.79, "low": -0.03, "high": 0.01}
    sure = uncertain | {"high": -0.005}
    assert not loses_more(measure_named("f1"), uncertain, whole)
    assert loses_more(measure_named("f1"), sure, whole)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("wrong", ["rows", "labels", "nan"])
def test_answers_that_do_not_fit_are_refused(wrong: str) -> None:
    kind, rows, (before, after) = drawn("classification")
    after = after[:-1] if wrong == "rows" else after[:, :-1] if wrong == "labels" else after * np.float32(np.nan)
    with pytest.raises(KdcError, match="no finite logits" if wrong == "nan" else "the same rows and labels"):
        compared(kind, rows, before, after)


def test_no_figure_of_a_certificate_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """Long names of measures and intervals make lines longer than the screen."""
    part = {
        "by": "length",
        "value": "33 to 44 tokens",
        "rows": 2059,
        "status": "flagged",
        "metric": {"name": "weighted_f1", "reference": 0.9, "model": 0.8, "low": -0.00486, "high": 0.0126},
        "reference_calibration_error": 0.028,
        "calibration_error": 0.029,
        "argmax_agreement": 0.998,
        "mean_difference": 0.012,
        "max_difference": 0.379,
    }
    each = {"model": "shipped", "reference": "exported", "role": "parent", "whole": part, "slices": [part]}
    print_whole(comparison_table(each))
    whole, line = (row for row in capsys.readouterr().out.splitlines() if "weighted_f1" in row)
    cells = "all 2,059 weighted_f1 0.900 0.800 -0.00486 … +0.0126 0.028 → 0.029 0.998 0.012 0.379"
    assert " ".join(whole.split()) == cells
    assert line.split()[-3:] == ["0.012", "0.379", "FLAGGED"]
