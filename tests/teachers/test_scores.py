"""A file of scores as teacher: scale detected, rows found by id, bad rows named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compress.artifacts import Standard
from compress.decide import softmax
from compress.errors import DataError
from compress.recipe import ScoresTeacher
from compress.teachers.scores import detect_scale, read_scores, rows_for, to_logits

LABELS = ("a", "b", "c")
FINITE = st.floats(-30, 30, width=32)
LOGITS = hnp.arrays(np.float32, st.tuples(st.integers(1, 20), st.integers(2, 5)), elements=FINITE)


def read(path: Path, labels: tuple[str, ...] = LABELS, positive: str | None = None, **fields: Any) -> Any:
    """Rows, logits and scale of a score file."""
    section = ScoresTeacher(kind="scores", path=path.name, **fields)
    return read_scores(section, path.parent, labels, positive)


# ---------------------------------------------------------------- scale


@given(LOGITS)
def test_probabilities_give_back_the_distribution(values: np.ndarray) -> None:
    """Detected as such, and their logits say the same distribution."""
    probabilities = softmax(values)
    logits, scale = to_logits(probabilities, "detect", None)
    assert scale == "probabilities"
    np.testing.assert_allclose(softmax(logits), probabilities, atol=1e-5)


@given(LOGITS)
def test_logits_stay_as_they_are(values: np.ndarray) -> None:
    """Whatever is no distribution is logits, log-probabilities among them."""
    shifted = values - values.min(1, keepdims=True) + 1.5
    assume((abs(shifted.sum(1) - 100) > 10).any())  # rows that may be percentages are refused, see below
    logits, scale = to_logits(shifted, "detect", None)
    assert scale == "logits"
    assert logits is shifted
    with np.errstate(divide="ignore"):
        logs = np.log(np.clip(softmax(values), 1e-30, 1)).astype(np.float32)
    if (logs < 0).any():
        assert detect_scale(logs) == "logits"
        np.testing.assert_allclose(softmax(to_logits(logs, "detect", None)[0]), softmax(values), atol=1e-5)


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 20), st.just(1)), elements=FINITE), st.integers(0, 1))
def test_a_single_column_belongs_to_the_positive_label(values: np.ndarray, positive: int) -> None:
    """A margin is a difference of logits, a probability that of the positive label; the other logit is 0."""
    logits, scale = to_logits(values, "margins", positive)
    assert scale == "margins"
    np.testing.assert_array_equal(logits[:, positive], values[:, 0])
    assert not logits[:, 1 - positive].any()
    chances = (1 / (1 + np.exp(-values.astype(np.float64)))).astype(np.float32)
    logits, scale = to_logits(chances, "detect", positive)
    assert scale == "probabilities"
    np.testing.assert_allclose(softmax(logits)[:, positive], chances[:, 0], atol=2e-6)


def test_detected_from_the_range() -> None:
    """One number outside 0 to 1 is enough; rows that do not sum to 1 are no distribution."""
    assert detect_scale(np.array([[0.2], [1.0]], np.float32)) == "probabilities"
    assert detect_scale(np.array([[0.2], [1.1]], np.float32)) == "margins"
    assert detect_scale(np.array([[0.2], [-0.1]], np.float32)) == "margins"
    assert detect_scale(np.array([[0.2, 0.8], [1.9, 0.9]], np.float32)) == "logits"
    assert detect_scale(np.array([[0.204, 0.8]], np.float32)) == "probabilities"


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 20), st.integers(2, 60)), elements=FINITE))
def test_rounded_probabilities_are_probabilities(values: np.ndarray) -> None:
    """Two decimals are what a spreadsheet keeps; with many classes their sums are far from 1."""
    assert detect_scale(softmax(values).round(2)) == "probabilities"


@pytest.mark.parametrize(
    ("scale", "values", "message"),
    [
        ("detect", [[0.2, 0.8], [0.9, 0.9]], r"rows sum to 1 up to 1.8, .* set teacher.scale"),
        ("detect", [[20.0, 80.0], [99.0, 1.0]], "look like percentages"),
        ("probabilities", [[0.2, 0.8], [3.0, -1.0]], r"row 2 is \[3.0, -1.0\] \(1 such rows\)"),
        ("probabilities", [[0.0, 0.0]], "row 1 is .* not all 0"),
        ("margins", [[1.0, 2.0]], r"one column \(score\), but there are 2"),
    ],
)
def test_numbers_that_are_not_on_the_scale(scale: str, values: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_logits(np.array(values, np.float32), scale, 1)


def test_certainty_stays_finite() -> None:
    """Probabilities of 0 and 1 have logits that can be learnt from."""
    for values in ([[0.0, 1.0]], [[1.0]], [[0.0]]):
        assert np.isfinite(to_logits(np.array(values, np.float32), "detect", 1)[0]).all()


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format(tmp_path: Path, kind: str) -> None:
    """Columns in any order, ids as text, other columns ignored."""
    table = pandas.DataFrame(
        {"c": [3.0, 6.0], "id": ["007", "8"], "b": [2.0, 5.0], "note": ["x", "y"], "a": [1.0, 4.0]}
    )
    path = tmp_path / f"scores.{kind}"
    if kind == "parquet":
        table.to_parquet(path)
    elif kind == "jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
    rows, logits, scale = read(path)
    assert rows == {"007": 0, "8": 1}
    assert scale == "logits"
    assert rows_for(["8", "007"], rows, logits, "train").tolist() == [[4, 5, 6], [1, 2, 3]]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "csv.gz", "jsonl.gz"])
def test_ids_are_text_whatever_they_look_like(tmp_path: Path, kind: str) -> None:
    """NA, null and dates are names like any other; a packed file is read like a plain one."""
    ids = ["NA", "null", "2024-01-01", "1e5", "007"]
    if kind.startswith("csv"):
        text = "id,score\n" + "".join(f"{name},{n}.5\n" for n, name in enumerate(ids))
    else:
        text = "".join(json.dumps({"id": name, "score": n + 0.5}) + "\n" for n, name in enumerate(ids))
    path = tmp_path / f"scores.{kind}"
    path.write_bytes(gzip.compress(text.encode()) if kind.endswith(".gz") else text.encode())
    assert list(read(path, ("0", "1"), "1")[0]) == ids


def test_scale_of_the_recipe_counts(tmp_path: Path) -> None:
    """What is said is not detected."""
    path = tmp_path / "scores.csv"
    path.write_text("id,score\nx,0.5\ny,0.25\n")
    _, logits, scale = read(path, ("0", "1"), "1", scale="margins")
    assert scale == "margins"
    assert logits.tolist() == [[0, 0.5], [0, 0.25]]
    _, logits, scale = read(path, ("0", "1"), "0")
    assert scale == "probabilities"
    np.testing.assert_allclose(logits, [[0, 0], [np.log(1 / 3), 0]], rtol=1e-6)


@pytest.mark.parametrize(("kind", "line"), [("csv", ":3"), ("tsv", ":3"), ("jsonl", ":2"), ("parquet", ", row 2")])
def test_a_score_that_is_missing(tmp_path: Path, kind: str, line: str) -> None:
    """File and line, the id, the numbers, how many such rows."""
    path = tmp_path / f"scores.{kind}"
    table = {"id": ["x", "y", "z"], "a": [1.0, None, None], "b": [2.0, 2.0, 2.0], "c": [0.0, 0.0, 0.0]}
    if kind == "jsonl":
        rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "parquet":
        pandas.DataFrame(table).to_parquet(path)
    else:
        pandas.DataFrame(table).to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
    cells = r"\['', '2.0', '0.0'\]" if kind in ("csv", "tsv") else r"\[nan, 2.0, 0.0\]"
    expected = rf"{path.name}{line}: score {cells} of id 'y' is not a finite number \(2 such rows\)"
    with pytest.raises(DataError, match=expected):
        read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,a,b\nx,1,2\n", "no score column for c; there are id, a, b; give one column for each label"),
        ("a,b,c\n1,2,3\n", "no column 'id'; there are a, b, c"),
        ("id,a,b,c\nx,1,2,3\nx,1,2,3\n", "1 ids stand there more than once"),
        ("id,a,b,c\nx,1,two,3\n", r"scores.csv:2: score \['1', 'two', '3'\] .* is not a finite number"),
        ("id,a,b,c\nx,1,inf,3\n", "scores.csv:2: score .* is not a finite number"),
        ("id,a,b,c\nx,1,1e300,3\n", "scores.csv:2: score .* is not a finite number"),
        ("nr,a,b,c\nx,1,2,3\n", "no column 'id'; there are nr, a, b, c: rename"),
        ("id,a,b,c\nx,.1,.2,.3\n", "scores.csv: all scores lie in 0..1, but the rows sum to 0.6"),
        ("", "could not be read as csv"),
        ('id,a,b,c\nx,1,2,3,4,5\n"', "could not be read as csv"),
    ],
)
def test_bad_files(tmp_path: Path, content: str, message: str) -> None:
    """Each with its sentence."""
    path = tmp_path / "scores.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read(path)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    """Missing, of unknown format, or not what their ending says."""
    with pytest.raises(DataError, match=r"teacher.path: there is no file"):
        read(tmp_path / "scores.csv")
    with pytest.raises(DataError, match=r"set teacher.format"):
        read(tmp_path / "scores.dat")
    for kind in ("parquet", "jsonl"):
        path = tmp_path / f"scores.{kind}"
        path.write_bytes(b"{ not a table")
        with pytest.raises(DataError, match=f"could not be read as {kind}"):
            read(path)


def test_a_score_column_is_for_two_labels(tmp_path: Path) -> None:
    """Three labels need three columns."""
    path = tmp_path / "scores.csv"
    path.write_text("id,score\nx,0.5\n")
    with pytest.raises(DataError, match=r"no score column for a, b, c"):
        read(path)


def test_rows_without_scores() -> None:
    """How many, of how many, the first, and which column of the recipe must name the ids."""
    with pytest.raises(DataError, match=r"no scores for 2 of 3 rows of train, first id 'q'.*columns.id"):
        rows_for(["x", "q", "r"], {"x": 0}, np.zeros((1, 2), np.float32), "train")


def test_a_score_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_bytes(b"id,score\nx,1\n\xfcy,2\n")
    with pytest.raises(DataError, match=r"scores.csv:3 is not valid UTF-8"):
        read(path, ("0", "1"), "1")


def test_rows_that_share_an_id_cannot_share_a_score() -> None:
    """As when the number of a query is taken for the id of a row."""
    with pytest.raises(DataError, match="the id '7' stands in 2 rows of train"):
        rows_for(["7", "8", "7"], {"7": 0, "8": 1}, np.zeros((2, 2), np.float32), "train")


def test_numbers_are_taken_as_they_are_and_standardised(tmp_path: Path) -> None:
    """For ranking and regression the column `score` is no probability, even where all lie in 0..1."""
    path = tmp_path / "scores.csv"
    path.write_text("id,score\na,0.25\nb,1\nc,-0.5\n")
    rows, logits, scale = read(path, ("score",))
    assert (rows, scale) == ({"a": 0, "b": 1, "c": 2}, "numbers")
    assert logits.tolist() == [[0.25], [1.0], [-0.5]]
    section = ScoresTeacher(kind="scores", path=path.name)
    _, logits, _ = read_scores(section, tmp_path, ("score",), None, Standard(mean=0.25, std=0.5))
    assert logits.tolist() == [[0.0], [1.5], [-1.5]]
    path.write_text("id,grade\na,1\n")
    with pytest.raises(DataError, match=r"no score column for score; there are id, grade; give the column `score`"):
        read(path, ("score",))
