"""Folds: nothing that a fold's model has seen stands among the rows that it answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compress.batch import Examples
from compress.data.folds import deal_folds
from compress.errors import DataError

KEY = "teacher.train.folds"


def rows(count: int, **columns: Any) -> Examples:
    """Rows of different texts."""
    given: dict[str, Any] = {"ids": [str(i) for i in range(count)], "texts": [f"text {i}" for i in range(count)]}
    return Examples(**(given | columns))


def dealt(examples: Examples, folds: int, seed: int = 0) -> np.ndarray:
    """Folds of rows with up to 100 labels."""
    return deal_folds(examples, folds, seed, names=[f"label {i}" for i in range(100)], key=KEY)


def test_folds_are_equal_in_size_and_labels_and_depend_on_the_seed() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    found = dealt(rows(100, labels=labels), 5)
    assert np.bincount(found).tolist() == [20] * 5
    for label, share in ((0, 12), (1, 6), (2, 2)):
        assert np.bincount(found[labels == label]).tolist() == [share] * 5
    assert (dealt(rows(100, labels=labels), 5) == found).all()
    assert (dealt(rows(100, labels=labels), 5, seed=1) != found).any()


def test_equal_texts_are_in_one_fold_in_either_order() -> None:
    texts, pairs = ["a", "b", "a", "c", "d", "e"], ["b", "a", "b", "x", "x", "x"]
    found = dealt(rows(6, texts=texts, pairs=pairs, labels=np.array([0, 1, 0, 1, 0, 0])), 2)
    assert len(set(found[:3])) == 1


def test_groups_are_whole_and_joined_by_equal_texts() -> None:
    generator = np.random.default_rng(1)
    groups = [f"query {i}" for i in generator.integers(0, 40, 300)]
    texts = [f"text {i}" for i in range(300)]
    texts[groups.index("query 3")] = texts[groups.index("query 7")] = "the same"
    found = dealt(rows(300, texts=texts, groups=groups, labels=generator.normal(size=300)), 4)
    fold_of = {group: set(found[[i for i, g in enumerate(groups) if g == group]]) for group in set(groups)}
    assert all(len(folds) == 1 for folds in fold_of.values())
    assert fold_of["query 3"] == fold_of["query 7"]
    assert np.bincount(found).min() > 50


def test_a_label_with_fewer_rows_than_folds_is_named() -> None:
    labels = np.array([0] * 8 + [1] * 3)
    with pytest.raises(DataError, match=r"^teacher.train.folds is 4, but the label 'label 1' has 3 training rows"):
        dealt(rows(11, labels=labels), 4)
    assert set(dealt(rows(11, labels=labels), 3)[labels == 1]) == {0, 1, 2}
    twice = rows(12, labels=np.append(labels, 1), texts=[f"text {min(i, 10)}" for i in range(12)])
    with pytest.raises(DataError, match="'label 1' has 3 training rows, equal texts and groups counted once"):
        dealt(twice, 4)


def test_more_folds_than_groups() -> None:
    with pytest.raises(DataError, match="is 3, but the training rows are 2 groups or different texts"):
        dealt(rows(6, groups=["a", "a", "a", "b", "b", "b"], labels=np.arange(6.0)), 3)
