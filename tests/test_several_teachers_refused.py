"""Recipes of several teachers that cannot be meant: `kdc check` ends with the right code and says which key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import tiny_models, tiny_teachers
from tests.tiny_project import ROWS, kdc, recipe_of, rows_of, write_csv, write_recipe
from tests.tiny_teachers import MODEL, OTHER, SCORES, TAUGHT, quickest

one_thread = pytest.fixture(scope="module", autouse=True)(tiny_models.one_thread)
project = pytest.fixture(scope="module")(tiny_teachers.project)


def refused(project: Path, code: int, sentence: str, given: dict[str, Any]) -> None:
    """`kdc check` ends with an exit code and says why."""
    result = kdc("check", write_recipe(project, given, "wrong.yaml"))
    assert result.exit_code == code, result.output
    assert sentence in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("teacher", "sentence"),
    [
        ({"members": []}, "teacher.members: must have at least 1 item"),
        ({"members": [MODEL], "gate": "confidence"}, "gate: confidence weighs members against each other, and there"),
        ({"members": [MODEL, OTHER | {"weight": 0}]}, "teacher.members.1.weight: must be greater than 0, not 0"),
        ({"members": [MODEL, OTHER | {"weight": -2}]}, "teacher.members.1.weight: must be greater than 0, not -2"),
        ({"members": [MODEL, MODEL | {"weight": 2}]}, "teacher.members.0 and teacher.members.1 are the same: give one"),
        ({"members": [OTHER, TAUGHT, TAUGHT | {"seed": 3}]}, "teacher.members.1 and teacher.members.2 are the same"),
        ({"members": [MODEL, OTHER | {"seed": 3}]}, "teacher.members.1: seed 3 is of a training, and there is no"),
        ({"members": [{"kind": "several", "members": [MODEL]}]}, "teacher.members.0.kind: must be one of huggingface"),
        ({"members": [MODEL, OTHER | {"calibrate": True}]}, "of several teachers the mixture is calibrated: set teac"),
        ({"members": [MODEL, OTHER | {"folds": 3}]}, "teacher.members.1.folds: unknown key"),
        ({"members": [MODEL, TAUGHT | {"train": {"folds": 1}}]}, "members.1.train.folds: must be greater than or equ"),
    ],
)
def test_a_recipe_of_several_that_cannot_be_meant(project: Path, teacher: dict[str, Any], sentence: str) -> None:
    refused(project, 2, sentence, quickest({"kind": "several"} | teacher))


@pytest.mark.parametrize(
    ("teacher", "sentence"),
    [
        (
            {"calibrate": True} | MODEL,
            "teacher.calibrate fits a temperature to the probabilities of labels, which task",
        ),
        (
            {"kind": "several", "members": [MODEL, OTHER], "gate": "confidence"},
            "teacher.gate: confidence is told by the probabilities of labels, which task.kind: regression does not",
        ),
    ],
)
def test_numbers_have_no_probabilities(project: Path, teacher: dict[str, Any], sentence: str) -> None:
    refused(project, 2, sentence, quickest(teacher) | {"task": {"kind": "regression"}})


def test_members_with_other_labels_name_both(project: Path) -> None:
    tiny_models.bert_folder(project / "other", ("strom", "küche", "garten"))
    refused(
        project,
        3,
        "teacher.members.1.model answers strom, küche, garten, but teacher.members.0.model answers strom, küche, "
        "schuhe: all members must have the same labels",
        quickest({"kind": "several", "members": [MODEL, OTHER]}),
    )


def test_errors_of_a_member_are_told_under_its_key(project: Path) -> None:
    members: list[dict[str, Any]] = [MODEL, {"model": "./nowhere"}]
    refused(project, 3, "teacher.members.1.model: there is no", quickest({"kind": "several", "members": members}))
    members = [MODEL, SCORES | {"path": "fehlt.csv"}]
    refused(project, 3, "teacher.members.1.path: there is no", quickest({"kind": "several", "members": members}))


def test_more_folds_than_rows_of_a_label(project: Path) -> None:
    rows = rows_of("classification", ROWS["train"], 0)
    kept = [row for row in rows if row["kategorie"] != "strom"]
    write_csv(project / "wenige.csv", [*kept, *[row for row in rows if row["kategorie"] == "strom"][:2]])
    given = quickest(MODEL | {"train": {"folds": 3}})
    given["data"]["train"]["path"] = "wenige.csv"
    refused(project, 3, "teacher.train.folds is 3, but the label 'strom' has 2 training rows", given)


def test_scores_without_validation_rows_cannot_be_calibrated(project: Path) -> None:
    lines = (project / "noten.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (project / "nur.csv").write_text("".join(lines[: ROWS["train"] + 1]), encoding="utf-8")
    given = recipe_of("classification", teacher={"kind": "scores", "path": "nur.csv", "calibrate": True})
    given["student"] = {"kind": "mobile", "init": "random", "vocabulary": {"train": 300}}
    given["distill"] = {"stages": [{"name": "imitate"}], "control": False}
    refused(project, 3, "no scores for 48 of 48 rows of validation, on which teacher.calibrate is fitted", given)


def test_what_is_left_out_leaves_the_digest_alone() -> None:
    """Recipes from before keep their runs, and keys of finished teachers stay the same."""
    from compress.recipe.file import resolve

    dumped = resolve(quickest(TAUGHT), Path("recipe.yaml")).recipe.dump()["teacher"]
    assert dumped.keys() == {"kind", "model", "revision", "max_length", "train", "trust_remote_code"}
    assert "folds" not in dumped["train"]
