"""Labels that are numbers: read, split, and refused where nothing can be learned from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.batch import Splits
from compress.errors import DataError, RecipeError

Load = Callable[..., Splits]
REGRESSION, RANKING = {"kind": "regression"}, {"kind": "ranking"}
PRICED = {"text": "title", "label": "price"}
RANKED = {"text": "query", "text_pair": "title", "label": "grade"}
GROUPED = RANKED | {"group": "qid"}


def write(path: Path, header: str, rows: Sequence[str]) -> None:
    path.write_text(header + "\n" + "".join(f"{row}\n" for row in rows))


def data(columns: dict[str, str], **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "train": {"path": "train.csv", "columns": columns},
        "validation": {"path": "validation.csv"},
        "test": {"path": "test.csv"},
    }
    return given | changes


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    """Twenty priced titles, and five in validation and test each."""
    for name, count in (("train", 20), ("validation", 5), ("test", 5)):
        write(tmp_path / f"{name}.csv", "title,price", [f"{name} {n},{n + 0.5}" for n in range(count)])
    return tmp_path


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    """Queries with three graded titles each; the id of a query differs from its text."""
    for name, count in (("train", 12), ("validation", 4), ("test", 4)):
        rows = [f"{name}-{q},{name} query {q},title {name} {q} {d},{d}" for q in range(count) for d in range(3)]
        write(tmp_path / f"{name}.csv", "qid,query,title,grade", rows)
    return tmp_path


def replace_line(path: Path, number: int, content: str) -> None:
    lines = path.read_text().splitlines()
    lines[number - 1] = content
    path.write_text("\n".join(lines) + "\n")


# ---------------------------------------------------------------- regression


def test_numbers_are_read_as_they_stand(load: Load, prices: Path) -> None:
    for line, (text, value) in enumerate(
        [("1e3", 1000), ("-.5", -0.5), (" +7. ", 7), ("1699999999.25", 1699999999.25)]
    ):
        replace_line(prices / "train.csv", line + 2, f"a{line},{text}")
        splits = load(data(PRICED), REGRESSION)
        assert splits.train.labels is not None
        assert splits.train.labels[line] == value
    assert splits.labels == ("score",)
    assert splits.train.pairs is None
    assert splits.train.labels.dtype == np.float64


@pytest.mark.parametrize("text", ["nan", "inf", "cheap", "1_000", "0x10", "1e999", "true", "３"])
def test_what_is_no_finite_number_is_refused_with_its_place(load: Load, prices: Path, text: str) -> None:
    replace_line(prices / "test.csv", 3, f"a,{text}")
    with pytest.raises(
        DataError, match=rf"test\.csv:3 has the label '{text}', but .* finite numbers: mend it or remove"
    ):
        load(data(PRICED), REGRESSION)


def test_a_decimal_comma_and_a_missing_number_are_told(load: Load, prices: Path) -> None:
    replace_line(prices / "train.csv", 4, 'a,"4,5"')
    with pytest.raises(DataError, match=r"train\.csv:4 has the label '4,5', .*: write a point for the comma"):
        load(data(PRICED), REGRESSION)
    replace_line(prices / "train.csv", 4, "a,")
    with pytest.raises(DataError, match=r"train\.csv:4 has no label"):
        load(data(PRICED), REGRESSION)


def test_equal_numbers_are_refused(load: Load, prices: Path) -> None:
    write(prices / "train.csv", "title,price", [f"a{n},9.90" for n in range(5)])
    with pytest.raises(DataError, match=r"all 5 training rows have the number 9\.9 \(first at .*train\.csv:2\)"):
        load(data(PRICED), REGRESSION)


def test_two_texts_where_the_columns_name_two(load: Load, queries: Path) -> None:
    splits = load(data(RANKED), REGRESSION)
    assert splits.train.pairs is not None
    assert splits.train.groups is None
    one = {"columns": {"text": "query", "label": "grade"}, "path": "test.csv"}
    with pytest.raises(
        RecipeError, match=r"data\.train has two texts a row, but data\.test\.columns\.text_pair is not"
    ):
        load(data(RANKED, test=one), REGRESSION)
    single = {"text": "query", "label": "grade"}
    with pytest.raises(RecipeError, match=r"data\.test\.columns\.text_pair is given, but data\.train\.columns"):
        load(data(single, test={"columns": RANKED, "path": "test.csv"}), REGRESSION)


def test_fractions_hold_out_small_and_large_numbers_alike(load: Load, prices: Path) -> None:
    write(prices / "train.csv", "title,price", [f"a{n},{n}" for n in range(100)])
    splits = load(data(PRICED, validation={"fraction": 0.2}, test={"fraction": 0.2}), REGRESSION)
    for rows in (splits.validation, splits.test):
        assert rows.labels is not None
        assert len(rows) == 20
        assert np.bincount((rows.labels // 10).astype(int), minlength=10).tolist() == [2] * 10


# ---------------------------------------------------------------- ranking


def test_groups_are_those_of_the_column_or_of_equal_first_texts(load: Load, queries: Path) -> None:
    named = load(data(GROUPED), RANKING)
    assert set(named.train.groups or ()) == {f"train-{q}" for q in range(12)}
    by_text = load(data(RANKED), RANKING)
    assert set(by_text.train.groups or ()) == {f"train query {q}" for q in range(12)}
    assert by_text.train.group_codes is not None
    assert np.bincount(by_text.train.group_codes).tolist() == [3] * 12
    assert named.fingerprint != by_text.fingerprint
    assert not [note for note in named.notes if "group" in note]


def test_a_group_column_that_only_training_has_is_missed(load: Load, queries: Path) -> None:
    rows = [f"test query {q},title {d},{d}" for q in range(4) for d in range(3)]
    write(queries / "test.csv", "query,title,grade", rows)
    with pytest.raises(DataError, match=r"test\.csv has no column 'qid' \(data\.train\.columns\.group\)"):
        load(data(GROUPED), RANKING)


def test_fractions_hold_out_whole_queries(load: Load, queries: Path) -> None:
    splits = load(data(RANKED, validation={"fraction": 0.25}, test={"fraction": 0.25}), RANKING)
    groups = [set(rows.groups or ()) for rows in (splits.train, splits.validation, splits.test)]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 12
    assert [len(rows) for rows in (splits.validation, splits.test)] == [9, 9]


def test_a_transfer_set_has_groups_too(load: Load, queries: Path) -> None:
    write(queries / "more.csv", "qid,query,title", ["train-0,train query 0,another title", "new,new query,title"])
    more = {"path": "more.csv", "columns": {"text": "query", "text_pair": "title", "label": None, "group": "qid"}}
    splits = load(data(GROUPED, unlabeled=more), RANKING)
    assert splits.unlabeled is not None
    assert list(splits.unlabeled.groups or ()) == ["train-0", "new"]
    joined = splits.transfer
    assert joined.group_codes is not None
    assert np.bincount(joined.group_codes).tolist().count(4) == 1


def test_grades_below_zero_are_refused_with_their_place(load: Load, queries: Path) -> None:
    replace_line(queries / "validation.csv", 3, "q,query,title,-1")
    with pytest.raises(DataError, match=r"validation\.csv:3 has the grade -1, .* 1 validation rows are below 0"):
        load(data(GROUPED), RANKING)


def test_groups_without_an_order_to_learn_are_refused(load: Load, queries: Path) -> None:
    alone = [f"q{n},query {n},title {n},{n % 2}" for n in range(8)]
    write(queries / "train.csv", "qid,query,title,grade", alone)
    with pytest.raises(DataError, match=r"all 8 training groups have one row each, .* data\.train\.columns\.group"):
        load(data(GROUPED), RANKING)
    flat = [f"q{n // 2},query,title {n},{n // 2 % 2}" for n in range(8)]
    write(queries / "train.csv", "qid,query,title,grade", flat)
    with pytest.raises(DataError, match=r"all 4 training groups have rows of one grade each"):
        load(data(GROUPED), RANKING)
    write(queries / "train.csv", "qid,query,title,grade", [f"q{n // 2},query,title {n},2" for n in range(8)])
    with pytest.raises(DataError, match=r"all 8 training rows have the grade 2"):
        load(data(GROUPED), RANKING)


def test_a_split_without_a_relevant_row_is_refused(load: Load, queries: Path) -> None:
    write(queries / "test.csv", "qid,query,title,grade", [f"q{n // 2},query,title {n},0" for n in range(8)])
    with pytest.raises(DataError, match=r"no test row has a grade above 0"):
        load(data(GROUPED), RANKING)


def test_groups_that_say_little_are_noted(load: Load, queries: Path) -> None:
    for name in ("train", "test"):
        with (queries / f"{name}.csv").open("a") as stream:
            stream.write(f"x,{name} alone,title,1\ny,{name} barren,one,0\ny,{name} barren,two,0\n")
    notes = load(data(GROUPED), RANKING).notes
    assert [note for note in notes if "group" in note] == [
        "1 of 14 training groups have one row, from which no order is learned",
        "1 of 6 test groups have one row, which any model puts in the right order",
        "1 of 6 test groups have no row with a grade above 0; the metrics leave them out",
    ]


def test_weights_of_rows_that_are_compared_are_refused(load: Load, queries: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.train\.columns\.weight is given, but the rows of a query"):
        load(data(GROUPED | {"weight": "grade"}), RANKING)
    with pytest.raises(RecipeError, match=r"task\.kind is ranking, but data\.train\.columns\.text_pair is not given"):
        load(data({"text": "query", "label": "grade"}), RANKING)


@pytest.mark.parametrize("name", ["validation", "test"])
def test_a_split_of_one_number_is_noted_or_refused(load: Load, prices: Path, name: str) -> None:
    """Errors are defined there; a rank correlation is not."""
    write(prices / f"{name}.csv", "title,price", [f"b{n},4.50" for n in range(3)])
    assert load(data(PRICED), REGRESSION).notes == (
        f"all 3 {name} rows have the number 4.5 (first at {prices / name}.csv:2): its figures say how near that one "
        "number is met, and spearman is 0",
    )
    with pytest.raises(DataError, match=rf"all 3 {name} rows have the number 4\.5 .*: check data\.{name}, or choose"):
        load(data(PRICED), REGRESSION | {"metric": "spearman"})


@pytest.mark.parametrize("name", ["validation", "test"])
def test_a_split_in_which_every_order_is_right_is_refused(load: Load, queries: Path, name: str) -> None:
    alone = [f"q{n},query {n},title {n},{n % 2}" for n in range(8)]
    write(queries / f"{name}.csv", "qid,query,title,grade", alone)
    message = rf"all 8 {name} groups have one row each, so every order is right: .* data\.{name}\.columns\.group"
    with pytest.raises(DataError, match=message):
        load(data(GROUPED), RANKING)
    write(queries / f"{name}.csv", "qid,query,title,grade", [f"q{n // 2},query,title {n},2" for n in range(8)])
    with pytest.raises(DataError, match=rf"all 4 {name} groups have rows of one grade each, so every order is right"):
        load(data(GROUPED), RANKING)
