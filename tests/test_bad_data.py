"""Bad data to the commands: exit code 3 and one sentence that names file, line and key, and no stage is made."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny_project import (
    LABELS,
    ROWS,
    kdc_json,
    leftovers,
    published,
    recipe_of,
    refused,
    rows_of,
    write_csv,
    write_recipe,
)

Prepare = Callable[[Path], None]


def _line(name: str, number: int, content: bytes) -> Prepare:
    """Put other bytes into a line, counted from 1."""

    def prepare(project: Path) -> None:
        lines = (project / name).read_bytes().split(b"\r\n")
        lines[number - 1] = content
        (project / name).write_bytes(b"\r\n".join(lines))

    return prepare


def _nothing(project: Path) -> None:
    """The data are as they should be."""


def _empty(project: Path) -> None:
    (project / "classification-train.csv").write_bytes(b"")


def _two_labels(project: Path) -> None:
    for seed, split in enumerate(ROWS):
        rows = [row for row in rows_of("classification", ROWS[split], seed) if row["kategorie"] != "strom"]
        write_csv(project / f"classification-{split}.csv", rows)


def _other_labels(project: Path) -> None:
    for seed, split in enumerate(ROWS):
        rows = rows_of("classification", ROWS[split], seed)
        write_csv(project / f"classification-{split}.csv", [r | {"kategorie": r["kategorie"].upper()} for r in rows])


DATA: list[tuple[str, Prepare, list[str], str]] = [
    ("missing-file", _nothing, ["data.train.path=weg.csv"], r"weg\.csv does not exist \(data\.train\.path\)"),
    (
        "missing-column",
        _nothing,
        ["data.train.columns.text=title"],
        r"no column 'title' \(data\.train\.columns\.text\); it has 'nr', 'titel', 'kategorie'.*did you mean 'titel'\?",
    ),
    ("empty-file", _empty, [], r"classification-train\.csv is empty \(0 bytes\)"),
    (
        "unseen-label",
        _line("classification-test.csv", 3, b"2-1,Akkuschrauber,werkzeug"),
        [],
        r"label.*werkzeug.*task\.unseen_labels: wrong",
    ),
    (
        "empty-text",
        _line("classification-test.csv", 7, b"2-5,  ,schuhe"),
        [],
        r"classification-test\.csv:7 has an empty text \(column 'titel'",
    ),
    (
        "invalid-utf-8",
        _line("classification-validation.csv", 5, b"1-3,K\xfcche,schuhe"),
        [],
        r"classification-validation\.csv:5 is not valid UTF-8 \(0xfc at byte 6\)",
    ),
    ("fewer-labels-than-the-head", _two_labels, [], r"teacher\.model: the head of .* has 3 outputs .* have 2 labels"),
    (
        "labels-that-the-head-does-not-know",
        _other_labels,
        [],
        r"teacher\.model: the head of .* does not know the labels KÜCHE, SCHUHE, STROM; it knows",
    ),
]


@pytest.mark.parametrize(("prepare", "changes", "message"), [case[1:] for case in DATA], ids=[c[0] for c in DATA])
def test_bad_data_is_3_and_leaves_no_stage(project: Path, prepare: Prepare, changes: list[str], message: str) -> None:
    prepare(project)
    recipe = write_recipe(project, recipe_of("classification"))
    options = [option for change in changes for option in ("--set", change)]
    refused(3, message, "run", recipe, "--runs", project / "runs", *options)
    assert published(project / "runs") == set()
    assert leftovers(project / "runs") == []
    refused(3, message, "check", recipe, "--runs", project / "runs", *options)


def test_unseen_labels_can_be_counted_as_wrong(project: Path) -> None:
    _line("classification-test.csv", 3, b"2-1,Akkuschrauber,werkzeug")(project)
    recipe = write_recipe(project, recipe_of("classification"))
    found = kdc_json("teach", recipe, "--runs", project / "runs", "--set", "task.unseen_labels=wrong")
    accuracy = found["models"]["teacher"]["quality"]["accuracy"]
    assert 0 < accuracy <= 1 - 1 / ROWS["test"]
    assert any("werkzeug" in note for note in found["notes"])


def _scores(project: Path, change: Callable[[list[dict[str, str]]], None]) -> Path:
    """A file of scores and the recipe that learns from it."""
    rows = []
    for seed, (_, count) in enumerate(ROWS.items()):
        for row in rows_of("classification", count, seed):
            rows.append({"id": row["nr"]} | {label: "0.8" if label == row["kategorie"] else "0.1" for label in LABELS})
    change(rows)
    write_csv(project / "noten.csv", rows)
    recipe = recipe_of("classification", teacher={"kind": "scores", "path": "noten.csv"})
    recipe["student"] |= {"init": "random", "vocabulary": {"train": 300}}
    recipe["distill"] = {"stages": [{"name": "imitate", "epochs": 1}]}
    return write_recipe(project, recipe)


@pytest.mark.parametrize("value", ["nan", "inf", ""])
def test_a_score_that_is_no_number_is_3(project: Path, value: str) -> None:
    recipe = _scores(project, lambda rows: rows[10].update({"schuhe": value}))
    refused(
        3, r"noten\.csv:12: score .* of id '0-10' is not a finite number", "run", recipe, "--runs", project / "runs"
    )
    assert published(project / "runs") <= {"baseline"}


def test_a_score_file_that_lacks_a_label_or_a_row_is_3(project: Path) -> None:
    def without_a_label(rows: list[dict[str, str]]) -> None:
        for row in rows:
            del row["strom"]

    recipe = _scores(project, without_a_label)
    refused(
        3, r"noten\.csv: no score column for strom; there are id, küche, schuhe", "run", recipe, "--runs", project / "r"
    )
    recipe = _scores(project, lambda rows: rows.pop(5))
    refused(3, r"no scores for 1 of 160 rows of train, first id '0-5'", "run", recipe, "--runs", project / "r")
    (project / "noten.csv").unlink()
    refused(3, r"teacher\.path: there is no file .*noten\.csv", "run", recipe, "--runs", project / "r")


def test_the_data_of_these_tests_are_right(project: Path) -> None:
    """Each case above changes one thing of a project in which nothing is wrong."""
    recipe = write_recipe(project, recipe_of("classification"))
    found = kdc_json("check", recipe, "--runs", project / "runs")
    assert found["data"]["train"] == ROWS["train"]
    with (project / "classification-test.csv").open(encoding="utf-8", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == ROWS["test"]
