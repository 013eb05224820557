"""Measures of an order against trec_eval, scikit-learn and hand-computed groups."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.tasks.ranking_metrics import ranking_metrics

RECORDED = json.loads((Path(__file__).parent / "trec_eval.json").read_bytes())


@pytest.mark.parametrize("cutoff", RECORDED["expected"])
def test_recorded_values_of_trec_eval(cutoff: str) -> None:
    """40 groups of 1 to 30 rows with many ties, as pytrec_eval computed them."""
    rows = {name: np.array(column) for name, column in RECORDED["rows"].items()}
    found = ranking_metrics(rows["score"], rows["grade"], rows["group"], rows["id"], int(cutoff))
    assert found == pytest.approx(RECORDED["expected"][cutoff], rel=1e-12)


ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(-2, 2).map(float)), min_size=1, max_size=40)


@settings(deadline=None, max_examples=100)
@given(ROWS, st.integers(1, 8))
def test_any_groups_as_trec_eval(rows: list[tuple[int, int, float]], cutoff: int) -> None:
    """(group, grade, score) with ties, against trec_eval itself."""
    qrels: dict[str, dict[str, int]] = {}
    run: dict[str, dict[str, float]] = {}
    ids = [f"d{number}" for number in range(len(rows))]
    for row_id, (group, grade, score) in zip(ids, rows, strict=True):
        qrels.setdefault(str(group), {})[row_id] = grade
        run.setdefault(str(group), {})[row_id] = score
    judged = [group for group, known in qrels.items() if any(known.values())]
    groups, grades, scores = ([str(r[0]) for r in rows], np.array([r[1] for r in rows]), np.array([r[2] for r in rows]))
    if not judged:
        with pytest.raises(ValueError, match="no group has a relevant row"):
            ranking_metrics(scores, grades, groups, ids, cutoff)
        return
    names = {f"ndcg@{cutoff}": f"ndcg_cut_{cutoff}", f"recall@{cutoff}": f"recall_{cutoff}", "map": "map"}
    said = pytrec_eval.RelevanceEvaluator(qrels, {f"ndcg_cut.{cutoff}", f"recall.{cutoff}", "map"}).evaluate(run)
    found = ranking_metrics(scores, grades, groups, ids, cutoff)
    for ours, theirs in names.items():
        assert found[ours] == pytest.approx(sum(said[group][theirs] for group in judged) / len(judged), abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(st.permutations(range(8)), st.lists(st.integers(0, 4), min_size=8, max_size=8), st.integers(1, 8))
def test_ndcg_without_ties_is_scikit_learns(order: list[int], grades: list[int], cutoff: int) -> None:
    """Linear gain, ideal cut at the same rank."""
    from sklearn.metrics import ndcg_score

    if not any(grades):
        return
    scores = np.array(order, np.float64)
    found = ranking_metrics(scores, np.array(grades), ["q"] * 8, [str(i) for i in range(8)], cutoff)
    assert found[f"ndcg@{cutoff}"] == pytest.approx(ndcg_score([grades], [scores], k=cutoff))


def test_one_group_by_hand() -> None:
    """Grades 0, 2, 1, 0 in the order of the scores, cut at 2."""
    found = ranking_metrics(np.array([9.0, 7.0, 5.0, 3.0]), np.array([0, 2, 1, 0]), ["q"] * 4, list("abcd"), cutoff=2)
    assert found == pytest.approx(
        {
            "ndcg@2": (2 / math.log2(3)) / (2 + 1 / math.log2(3)),
            "mrr@2": 1 / 2,
            "map": (1 / 2 + 2 / 3) / 2,
            "recall@2": 1 / 2,
        }
    )
    assert ranking_metrics(np.array([9.0, 7.0]), np.array([0, 1]), ["q"] * 2, list("ab"), cutoff=1)["mrr@1"] == 0


def test_equal_scores_stand_by_id_from_behind() -> None:
    """As in trec_eval: the id that is later in the alphabet comes first, `9` before `10`."""
    for relevant, rank in (("9", 1), ("10", 2)):
        grades = np.array([row_id == relevant for row_id in ("10", "9")], float)
        found = ranking_metrics(np.zeros(2), grades, ["q", "q"], ["10", "9"], cutoff=10)
        assert found["mrr@10"] == pytest.approx(1 / rank)


def test_groups_without_a_relevant_row_are_left_out_and_lone_ones_count() -> None:
    """Three groups: one that says something, one barren, one lone relevant row."""
    scores, grades = np.array([2.0, 1.0, 5.0, 4.0, 0.0]), np.array([0, 1, 0, 0, 3])
    found = ranking_metrics(scores, grades, ["a", "a", "b", "b", "c"], list("vwxyz"), cutoff=10)
    assert found["mrr@10"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["ndcg@10"] == pytest.approx((1 / math.log2(3) + 1) / 2)


def test_grades_need_not_be_whole() -> None:
    """Click rates as grades: a row above 0 is relevant, its gain is the rate."""
    found = ranking_metrics(np.array([1.0, 2.0]), np.array([0.5, 0.25]), ["q", "q"], ["a", "b"], cutoff=2)
    assert found["ndcg@2"] == pytest.approx((0.25 + 0.5 / math.log2(3)) / (0.5 + 0.25 / math.log2(3)))
    assert found["recall@2"] == 1
