"""How good an order is: NDCG, MRR, MAP and recall of groups, as trec_eval computes them.

A row is relevant when its grade is above 0. The gain of a row is its grade (linear, as in trec_eval, ranx and
scikit-learn; not 2^grade − 1), the discount of rank r is 1 / log2(r + 1), and both NDCG and its ideal end at the
cut-off (Järvelin and Kekäläinen 2002, https://doi.org/10.1145/582415.582418). Rows of equal score stand in descending
order of their ids, compared as text, as in trec_eval. Means go over the groups that have a relevant row, since no
order of the others is right or wrong. A group of one relevant row counts as trec_eval has it: 1 in each measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.batch import codes_of


def ranking_metrics(
    scores: npt.NDArray[Any], grades: npt.NDArray[Any], groups: Sequence[str], ids: Sequence[str], cutoff: int
) -> dict[str, float]:
    """ndcg, mrr and recall at `cutoff`, and map, each a mean over groups.

    Args:
        scores: [N]. grades: [N], 0 or more. groups, ids: of each row.

    Raises:
        ValueError: no group has a relevant row.
    """
    found = group_metrics(scores, grades, groups, ids, cutoff)
    return {name: float(values.mean()) for name, values in found.items()}


def group_metrics(
    scores: npt.NDArray[Any], grades: npt.NDArray[Any], groups: Sequence[str], ids: Sequence[str], cutoff: int
) -> dict[str, npt.NDArray[np.float64]]:
    """The measures of each group that has a relevant row, [G], in the order of the groups' names.

    Args:
        scores: [N]. grades: [N], 0 or more. groups, ids: of each row.

    Raises:
        ValueError: no group has a relevant row.
    """
    codes = codes_of(groups)
    relevant_rows = np.bincount(codes, grades > 0)
    judged = np.flatnonzero(relevant_rows)
    if not len(judged):
        raise ValueError("no group has a relevant row")
    order = np.lexsort((-codes_of(ids), -scores, codes))
    by_grade = np.lexsort((-grades, codes))
    starts = np.cumsum(np.bincount(codes)) - np.bincount(codes)
    group = codes[order]  # the same for both orders: groups stand one after the other
    rank = np.arange(1, len(codes) + 1) - starts[group]
    within, hit = rank <= cutoff, grades[order] > 0

    def total(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return np.asarray(np.bincount(group, values)[judged], np.float64)

    discount = within / np.log2(rank + 1)
    before = np.cumsum(relevant_rows) - relevant_rows
    hits_so_far = np.cumsum(hit) - before[group]
    return {
        f"ndcg@{cutoff}": total(discount * grades[order]) / total(discount * grades[by_grade]),
        f"mrr@{cutoff}": total(hit * (hits_so_far == 1) * within / rank),
        "map": total(hit * hits_so_far / rank) / relevant_rows[judged],
        f"recall@{cutoff}": total(hit & within) / relevant_rows[judged],
    }
