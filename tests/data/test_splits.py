"""Fractional splits: disjoint, complete, reproducible, in proportion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.batch import Splits
from compress.data.splits import hold_out
from compress.errors import DataError, RecipeError

Load = Callable[..., Splits]
labels = st.lists(st.sampled_from("abcdefg"), min_size=2, max_size=80)
fractions = st.floats(0.02, 0.9)


@given(labels=labels, fraction=fractions, seed=st.integers(0, 2**31 - 1))
def test_stratified(labels: list[str], fraction: float, seed: int) -> None:
    stay, out = hold_out(labels, None, fraction * len(labels), seed)
    assert sorted([*stay, *out]) == list(range(len(labels)))
    again = hold_out(labels, None, fraction * len(labels), seed)
    assert np.array_equal(stay, again[0])
    assert np.array_equal(out, again[1])
    sizes, held = Counter(labels), Counter(labels[row] for row in out)
    for label, size in sizes.items():
        assert held[label] <= size - 1, "training keeps a row of every label"
        assert abs(held[label] - min(fraction * size, size - 1)) <= 1


@given(
    rows=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), min_size=2, max_size=80),
    fraction=fractions,
    seed=st.integers(0, 2**31 - 1),
)
def test_grouped(rows: list[tuple[str, int]], fraction: float, seed: int) -> None:
    names, groups = [label for label, _ in rows], [str(group) for _, group in rows]
    stay, out = hold_out(names, groups, fraction * len(rows), seed)
    assert sorted([*stay, *out]) == list(range(len(rows)))
    assert not {groups[row] for row in stay} & {groups[row] for row in out}
    assert {names[row] for row in stay} == set(names)
    assert np.array_equal(out, hold_out(names, groups, fraction * len(rows), seed)[1])


def test_share_is_met_with_many_small_classes() -> None:
    names = [str(n // 3) for n in range(900)]
    assert len(hold_out(names, None, 90, 1)[1]) == 90
    groups = [str(n // 4) for n in range(900)]
    assert abs(len(hold_out(names, groups, 90, 1)[1]) - 90) <= 4


def test_seed_changes_the_draw() -> None:
    names = ["a", "b"] * 100
    assert not np.array_equal(hold_out(names, None, 40, 1)[1], hold_out(names, None, 40, 2)[1])


def write(path: Path, rows: int, group: int = 1) -> None:
    lines = [f"text {n},{'xy'[n % 2]},g{n // group}" for n in range(rows)]
    path.write_text("text,label,cluster\n" + "\n".join(lines) + "\n")


def test_fractions_of_the_training_rows(load: Load, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", 200)
    data = {"train": {"path": "t.csv"}, "test": {"fraction": 0.25}, "validation": {"fraction": 0.1}}
    splits = load(data)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (130, 20, 50)
    every = [*splits.train.ids, *splits.validation.ids, *splits.test.ids]
    assert sorted(every) == sorted(f"train-{n}" for n in range(200))
    assert splits.test.labels is not None
    assert splits.test.labels.sum() == 25
    assert load(data).fingerprint == splits.fingerprint
    assert load(data, seed=8).fingerprint != splits.fingerprint


def test_groups_stay_whole(load: Load, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", 200, group=5)
    columns = {"text": "text", "label": "label", "group": "cluster"}
    splits = load({"train": {"path": "t.csv", "columns": columns}, "test": {"fraction": 0.2}})
    sets = [set(part.groups or []) for part in (splits.train, splits.validation, splits.test)]
    assert sum(len(groups) for groups in sets) == 40
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (140, 20, 40)


def test_fractions_that_cannot_be(load: Load, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", 6)
    with pytest.raises(RecipeError, match=r"add up to 1\.1"):
        load({"train": {"path": "t.csv"}, "test": {"fraction": 0.6}, "validation": {"fraction": 0.5}})
    with pytest.raises(DataError, match=r"data\.test\.fraction 0\.05 of 6 training rows holds out no row"):
        load({"train": {"path": "t.csv"}, "test": {"fraction": 0.05}})
