"""Which rows a slice holds, and what it is called."""

from __future__ import annotations

import numpy as np

from compress.batch import Examples, Splits
from compress.certificate import slices
from compress.certificate.slices import Slice, slices_of
from compress.tasks.kind import TaskKind
from compress.tasks.kinds import task_kind
from tests.certificate.test_weighted import TASKS, rows_of


def kind_of(task: str, rows: Examples, names: tuple[str, ...] = ("score",)) -> TaskKind:
    return task_kind(TASKS[task], Splits(rows, rows, rows, None, names, ""))


def named(found: list[Slice]) -> dict[tuple[str, str], list[int]]:
    return {(each.by, each.value): each.rows.tolist() for each in found}


def test_labels_head_and_tail_and_columns() -> None:
    rows = rows_of("classification", np.array([0, 1, 2, 2, 0, -1, 2, 0]))
    kind = kind_of("classification", rows_of("classification", np.array([0, 1, 2])), ("a", "b", "c"))
    lengths, brands = np.full(8, 4), ["x", "", "x", "y", "x", "y", "y", "x"]
    found = slices_of(kind, rows, lengths, np.array([10, 2, 5]), {"brand": brands})
    assert named(found) == {
        ("label", "a"): [0, 4, 7],
        ("label", "c"): [2, 3, 6],
        ("label", "(never seen in training)"): [5],
        ("label", "b"): [1],
        ("frequency", "head, 1 of 3 labels"): [0, 4, 7],
        ("frequency", "tail, 2 of 3 labels"): [1, 2, 3, 5, 6],
        ("length", "4 tokens"): list(range(8)),
        ("column brand", "x"): [0, 2, 4, 7],
        ("column brand", "y"): [3, 5, 6],
        ("column brand", "(empty)"): [1],
    }
    assert {each.by for each in found if each.by_truth} == {"label", "frequency"}


def test_the_head_holds_half_of_the_training_rows() -> None:
    rows = rows_of("classification", np.arange(4))
    kind = kind_of("classification", rows, ("a", "b", "c", "d"))
    found = named(slices_of(kind, rows, np.ones(4, np.int64), np.array([1, 3, 2, 2]), {}))
    assert found["frequency", "head, 2 of 4 labels"] == [1, 2]  # 3 of 8 rows are too few, 5 are enough
    assert found["frequency", "tail, 2 of 4 labels"] == [0, 3]


def test_quarters_of_length_keep_equal_rows_together() -> None:
    rows = rows_of("regression", np.arange(8.0))
    found = named(slices_of(kind_of("regression", rows), rows, np.array([3, 3, 3, 3, 5, 6, 7, 9]), None, {}))
    assert found["length", "3 tokens"] == [0, 1, 2, 3]
    assert found["length", "5 to 6 tokens"] == [4, 5]
    assert found["length", "7 to 9 tokens"] == [6, 7]
    assert [value for by, value in found if by == "label"] == ["0 to 1", "2 to 3", "4 to 5", "6 to 7"]


def test_groups_of_a_ranking_stay_whole() -> None:
    rows = rows_of("ranking", np.tile([0.0, 1.0, 0.0, 0.0, 2.0], 4))
    lengths = np.repeat([2, 4, 6, 8], 5) + np.tile([-1, 1, 0, 0, 0], 4)
    found = named(slices_of(kind_of("ranking", rows), rows, lengths, None, {}))
    assert list(found) == [("length", f"{mean} tokens") for mean in (2, 4, 6, 8)]
    assert found["length", "4 tokens"] == [5, 6, 7, 8, 9]


def test_of_very_many_values_the_most_frequent_become_slices() -> None:
    rows = rows_of("regression", np.arange(6.0))
    values = ["a", "b", "c", "c", "b", "c"]
    found = slices_of(kind_of("regression", rows), rows, np.ones(6, np.int64), None, {"shop": values})
    assert [each.value for each in found if each.by == "column shop"] == ["c", "b", "a"]
    many = [str(number) for number in range(150)] + ["often"] * 2
    rows = rows_of("regression", np.arange(152.0))
    found = slices_of(kind_of("regression", rows), rows, np.ones(152, np.int64), None, {"shop": many})
    assert next(each.value for each in found if each.by == "column shop") == "often"
    assert sum(each.by == "column shop" for each in found) == slices.MOST_VALUES
