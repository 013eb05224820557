"""Several teachers, ensembles over seeds, out-of-fold answers and temperatures, from recipe to outputs."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.artifacts import ONNX, read_artifact
from compress.data.encode import encode_examples
from compress.data.load import load_splits
from compress.decide import softmax
from compress.errors import Interrupted
from compress.predict import predict_logits
from compress.recipe.file import load_recipe
from compress.steps import answers, panel, teaching
from compress.steps.context import Run
from compress.steps.models import fold_models, model_of
from compress.teachers.arrays import read_outputs
from compress.teachers.calibration import calibrate
from compress.teachers.several import confident_shares
from tests import tiny_models
from tests.tiny_numbers import COLUMNS, make_number_project, number_recipe, priced_rows, ranked_rows
from tests.tiny_project import LABELS, ROWS, kdc, kdc_json, recipe_of, rows_of, statuses, write_csv, write_recipe

one_thread = pytest.fixture(scope="module", autouse=True)(tiny_models.one_thread)

MODEL: dict[str, Any] = {"model": "teacher-classification", "max_length": 32}
TAUGHT = MODEL | {"train": {"epochs": 1, "learning_rate": 1e-3}}
SCORES = {"kind": "scores", "path": "noten.csv"}
HALF = 4e-3
"""Rounding of float16 for logarithms of probabilities here."""


@pytest.fixture(scope="module")
def project(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of this module, with a file of scores."""
    copy = tmp_path_factory.mktemp("several") / "project"
    shutil.copytree(tiny_project, copy, ignore=shutil.ignore_patterns("runs"))
    generator = np.random.default_rng(8)
    rows = []
    for seed, count in enumerate(ROWS.values()):
        for row in rows_of("classification", count, seed):
            wish = np.array([2.0 if row["kategorie"] == label else 0.0 for label in LABELS])
            values = softmax(wish + generator.normal(size=3))
            rows.append({"id": row["nr"]} | dict(zip(LABELS, values.astype(float).tolist(), strict=True)))
    write_csv(copy / "noten.csv", rows)
    return copy


def recipe(teacher: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The quickest student of a teacher."""
    given = recipe_of("classification", teacher=teacher)
    stage = {"name": "imitate", "epochs": 1, "learning_rate": 5e-3, "losses": {"soft": 1.0, "hidden": 0.1}}
    given["distill"] = {"stages": [stage], "batch_size": 32, "control": False} | changes
    return given


def distilled(project: Path, given: dict[str, Any], runs: str = "runs") -> dict[str, Any]:
    """The summary of a run up to its student."""
    return kdc_json("distill", write_recipe(project, given), "--runs", project / runs)


def logits_of(summary: dict[str, Any]) -> np.ndarray:
    """What its student learned from."""
    return np.asarray(read_outputs(Path(summary["run"]) / "outputs").logits, np.float64)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Of a row's labels."""
    return softmax(logits).astype(np.float64)


def given_scores(project: Path, split: int = 0) -> np.ndarray:
    """The file's probabilities of the training rows, or of the validation rows (1)."""
    with (project / "noten.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    train = ROWS["train"]
    rows = rows[:train] if split == 0 else rows[train : train + ROWS["validation"]]
    return np.array([[float(row[label]) for label in LABELS] for row in rows])


@pytest.fixture
def nothing_new(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither is a model made nor a teacher asked."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("made or asked again")

    with monkeypatch.context() as patch:
        patch.setattr(teaching, "make_model", refuse)
        patch.setattr(answers, "compute_outputs", refuse)
        yield


# ---------------------------------------------------------------- several


@pytest.fixture(scope="module")
def alone(project: Path) -> dict[str, Any]:
    """A run of one of the teachers by itself."""
    return distilled(project, recipe(MODEL))


def test_a_model_and_a_file_of_scores_teach_together(project: Path, alone: dict[str, Any]) -> None:
    teacher = {"kind": "several", "members": [SCORES | {"weight": 3}, MODEL]}
    result = kdc("distill", write_recipe(project, recipe(teacher)), "--runs", project / "runs", "--json")
    found = json.loads(result.stdout)
    expected = np.log(0.75 * given_scores(project) + 0.25 * probabilities(logits_of(alone)))
    assert logits_of(found) == pytest.approx(expected, abs=HALF)
    # the model is the one that taught alone, and its answers are those of then
    assert f"model 1 taken over from {Path(alone['run']).name}" in result.stderr
    assert f"{ROWS['train']} rows from the cache" in result.stderr
    said = [read_outputs(Path(run["run"]) / "outputs").hidden for run in (found, alone)]
    assert said[0] is not None
    assert said[1] is not None
    assert (said[0] == said[1]).all()

    model = found["models"]["teacher"]
    members = {member["teacher"]: member for member in model["members"]}
    assert members["teacher-classification"]["quality"] == alone["models"]["teacher"]["quality"]
    assert members["noten.csv"]["weight"] == 3
    assert model["quality"].keys() == members["noten.csv"]["quality"].keys()
    assert model["parameters"] == alone["models"]["teacher"]["parameters"]
    assert model["description"].endswith("size and latency are those of the first model, teacher-classification")


@pytest.mark.usefixtures("nothing_new")
def test_other_weights_and_a_gate_ask_nothing_anew(
    project: Path, alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [SCORES, MODEL]
    even = distilled(project, recipe({"kind": "several", "members": members}))
    theirs, own = given_scores(project), probabilities(logits_of(alone))
    assert logits_of(even) == pytest.approx(np.log((theirs + own) / 2), abs=HALF)

    seen: list[int] = []

    def gate(logits: np.ndarray, labels: np.ndarray | None, weights: list[float]) -> np.ndarray:
        seen.append(0 if labels is None else len(labels))
        return confident_shares(logits, labels, weights)

    monkeypatch.setattr(panel, "confident_shares", gate)
    gated = distilled(project, recipe({"kind": "several", "members": members, "gate": "confidence"}))
    right = [LABELS.index(row["kategorie"]) for row in rows_of("classification", ROWS["train"], 0)]
    rows = np.arange(len(right))
    # of two, 1 − (1/p) / (1/p + 1/q) = p / (p + q): each by the probability of the right label
    share = theirs[rows, right] / (theirs[rows, right] + own[rows, right])
    expected = share[:, None] * theirs + (1 - share)[:, None] * own
    assert np.exp(logits_of(gated)) == pytest.approx(expected, abs=2e-3)
    assert seen == [0, 0, ROWS["train"]]  # validation and test are measured without a look at their labels


@pytest.mark.usefixtures("nothing_new")
def test_the_largest_of_a_mixture_are_chosen_after_mixing(project: Path, alone: dict[str, Any]) -> None:
    members = [SCORES, MODEL]
    found = distilled(project, recipe({"kind": "several", "members": members}, top_k=1))
    mixed = (given_scores(project) + probabilities(logits_of(alone))) / 2
    said = read_outputs(Path(found["run"]) / "outputs")
    assert said.classes is not None
    assert (said.classes[:, 0] == mixed.argmax(1)).all()
    expected = np.log(np.stack([mixed.max(1), 1 - mixed.max(1)], 1))
    assert said.logits == pytest.approx(expected, abs=HALF)


def test_an_ensemble_is_members_that_differ_in_seed(project: Path) -> None:
    teacher = {"kind": "several", "members": [TAUGHT | {"seed": 5}, TAUGHT | {"seed": 6}]}
    found = distilled(project, recipe(teacher))
    folder = Path(found["run"]) / "teacher" / "models"
    weights = [read_artifact(folder / name) for name in "01"]
    assert weights[0] is not None
    assert weights[1] is not None
    assert weights[0].files["model.safetensors"] != weights[1].files["model.safetensors"]
    assert [member["seed"] for member in found["models"]["teacher"]["members"]] == [5, 6]
    single = distilled(project, recipe(TAUGHT) | {"seed": 6})
    assert statuses(single)["teacher"] == "done"
    taught = read_artifact(Path(single["run"]) / "teacher")
    assert taught is not None
    assert taught.files["model.safetensors"] == weights[1].files["model.safetensors"]
    assert found["history"]["teacher"]
    entries = kdc_json("cache", "ls", "--runs", project / "runs")["entries"]
    assert all(entry["runs"] for entry in entries)


@pytest.mark.parametrize("task", ["regression", "ranking"])
def test_numbers_are_the_weighted_mean(tmp_path: Path, task: str) -> None:
    make_number_project(tmp_path)
    generator, label = np.random.default_rng(6), COLUMNS[task]["label"]
    rows_of_split = {"regression": priced_rows, "ranking": ranked_rows}[task]
    rows = [row for split in ("train", "validation", "test") for row in rows_of_split(split)]
    count = len(rows_of_split("train"))
    grades = np.array([float(row[label]) for row in rows])
    files = [grades + generator.normal(size=len(rows)) for _ in range(2)]
    for number, values in enumerate(files):
        said = [{"id": row["nr"], "score": value} for row, value in zip(rows, values, strict=True)]
        write_csv(tmp_path / f"{number}.csv", said)
    members = [{"kind": "scores", "path": "0.csv", "weight": 1}, {"kind": "scores", "path": "1.csv", "weight": 3}]
    given = number_recipe(task, teacher={"kind": "several", "members": members})
    given["student"] |= {"init": "random", "vocabulary": {"train": 300}}
    given["distill"] = {"stages": [{"name": "imitate", "epochs": 1}], "control": False}
    found = kdc_json("distill", write_recipe(tmp_path, given), "--runs", tmp_path / "runs")
    mean = (files[0] + 3 * files[1])[:count] / 4
    if task == "regression":  # in the unit that models have
        mean = (mean - grades[:count].mean()) / grades[:count].std()
    assert logits_of(found)[:, 0] == pytest.approx(mean, rel=1e-3, abs=2e-3)
    model = found["models"]["teacher"]
    assert (model["parameters"], model["description"]) == (None, "2 teachers together")
    if task == "regression":
        assert model["quality"]["rmse"] < min(member["quality"]["rmse"] for member in model["members"])


# ---------------------------------------------------------------- folds


def test_a_training_row_is_answered_by_a_model_that_has_not_seen_it_and_none_is_taught_twice(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = recipe(MODEL | {"train": TAUGHT["train"] | {"folds": 3}})
    written = write_recipe(project, given)
    made: list[str] = []
    whole = teaching.make_model

    def stopped(run: Run, model: Any, out: Path, work: Path) -> Any:
        if model.name == "0-fold-2" and "0-fold-2" not in made:
            made.append(model.name)
            raise Interrupted("interrupted")
        made.append(model.name)
        return whole(run, model, out, work)

    monkeypatch.setattr(teaching, "make_model", stopped)
    assert kdc("distill", written, "--runs", project / "folds").exit_code == 130
    found = kdc_json("distill", written, "--runs", project / "folds")
    assert made == ["0", "0-fold-1", "0-fold-2", "0-fold-2", "0-fold-3"]
    assert len(found["models"]["teacher"]["folds"]) == 3

    loaded = load_recipe(written)
    run = Run(loaded, Path(found["run"]), load_splits(loaded, project / "folds" / ".cache"))
    section: Any = loaded.recipe.teacher
    model = model_of(run, 0, "teacher", section)
    dealt, said = teaching.fold_numbers(run, model), logits_of(found)
    by_all = answered(run, "0")
    for each in fold_models(model):
        own = dealt == each.fold
        seen = teaching._seen(run, each)
        assert not set(seen.texts) & {text for text, mine in zip(run.splits.train.texts, own, strict=True) if mine}
        expected = answered(run, each.name)[own]
        assert said[own] == pytest.approx(expected, abs=2e-2)
        assert np.abs(expected - by_all[own]).max() > 0.1
    hidden = read_outputs(run.at("outputs")).hidden
    assert hidden is not None  # of the model of all rows, from whose layers the student starts
    assert {p.name for p in run.folder.glob(".work/*")} == set()

    # the model of all rows is the teacher without folds, and the other way round
    plain = kdc("teach", write_recipe(project, recipe(TAUGHT), "plain.yaml"), "--runs", project / "folds", "--json")
    taught = read_artifact(Path(json.loads(plain.stdout)["run"]) / "teacher")
    assert taught is not None
    assert taught.files["model.safetensors"] == read_files(run, "0")["model.safetensors"]


def read_files(run: Run, name: str) -> Any:
    """The files of one of a run's models."""
    found = read_artifact(run.at("teacher") / "models" / name)
    assert found is not None
    return found.files


def answered(run: Run, name: str) -> np.ndarray:
    """What one of a run's models says of the training rows."""
    section: Any = run.recipe.teacher
    teacher = run.opened(section, run.at("teacher") / "models" / name)
    encoded = encode_examples(teacher.encoder, run.splits.train)
    return predict_logits(teacher.module, encoded, torch.device("cpu"), bf16=run.bf16).astype(np.float64)


# ---------------------------------------------------------------- temperature


def test_a_mixture_is_divided_by_the_temperature_of_validation(project: Path, alone: dict[str, Any]) -> None:
    members = [SCORES | {"weight": 9}, MODEL]
    given = recipe({"kind": "several", "members": members, "calibrate": True})
    found = distilled(project, given)
    loaded = load_recipe(project / "recipe.yaml")
    run = Run(loaded, Path(found["run"]), load_splits(loaded, project / "runs" / ".cache"))
    teacher = run.taught()
    assert teacher is not None
    rows = run.splits.validation
    said = predict_logits(teacher.module, encode_examples(teacher.encoder, rows), torch.device("cpu"))
    assert rows.labels is not None
    labels = rows.labels.astype(np.int64)
    expected = calibrate(np.log(0.9 * given_scores(project, 1) + 0.1 * probabilities(said)), labels)
    assert expected.fitted
    assert abs(expected.temperature - 1) > 0.1

    calibration = found["models"]["teacher"]["calibration"]
    assert calibration["temperature"] == pytest.approx(expected.temperature, rel=1e-2)
    assert calibration["error_before"] == pytest.approx(expected.error_before, abs=5e-3)
    mixed = np.log(0.9 * given_scores(project) + 0.1 * probabilities(logits_of(alone)))
    assert logits_of(found) == pytest.approx(mixed / calibration["temperature"], abs=2 * HALF)
    shown = kdc("distill", project / "recipe.yaml", "--runs", project / "runs").stdout
    assert f"calibration        temperature {calibration['temperature']:.3f}; expected calibration error" in shown
    assert "  noten.csv, weight 9: macro_f1 0." in shown


def test_calibrating_a_teacher_makes_no_other_and_one_that_is_never_wrong_is_left_as_it_is(
    project: Path, alone: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teaching, "make_model", None)
    given = write_recipe(project, recipe(MODEL | {"calibrate": True}))
    result = kdc("distill", given, "--runs", project / "runs", "--json")
    found = json.loads(result.stdout)
    assert statuses(found)["teacher"] == "reused"
    assert "the teacher is right on all 48 validation rows, which tell of no temperature" in result.stderr
    assert (logits_of(found) == logits_of(alone)).all()


@pytest.mark.long
def test_a_whole_run_of_several_times_the_lead(project: Path) -> None:
    teacher = {"kind": "several", "members": [SCORES, MODEL], "gate": "confidence", "calibrate": True}
    found = kdc_json("run", write_recipe(project, recipe(teacher)), "--runs", project / "runs")
    assert (Path(found["run"]) / "onnx" / "teacher" / ONNX).is_file()
    assert {row["artifact"] for row in found["latency"]} == {"teacher", "student", "shipped"}
    assert found["models"]["teacher"]["calibration"]["temperature"] > 0
    certified = {each["role"]: each["whole"]["metric"] for each in found["certificate"]["comparisons"]}
    together = found["models"]["teacher"]["quality"][found["metric"]]
    assert certified["teacher"]["reference"] == pytest.approx(together, abs=1e-6)
    assert "2 teachers together" in (Path(found["run"]) / "report.html").read_text(encoding="utf-8")
    planned = [row["stage"] for row in kdc_json("check", project / "recipe.yaml")["stages"]]
    assert planned == [name for name, status in statuses(found).items() if status != "skipped"]


# ---------------------------------------------------------------- what cannot be


def refused(project: Path, code: int, sentence: str, given: dict[str, Any]) -> None:
    """`kdc check` ends with an exit code and says why."""
    result = kdc("check", write_recipe(project, given, "wrong.yaml"))
    assert result.exit_code == code, result.output
    assert sentence in " ".join(result.stderr.split())


OTHER: dict[str, Any] = {"model": "other", "max_length": 32}


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
    refused(project, 2, sentence, recipe({"kind": "several"} | teacher))


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
    refused(project, 2, sentence, recipe(teacher) | {"task": {"kind": "regression"}})


def test_members_with_other_labels_name_both(project: Path) -> None:
    tiny_models.bert_folder(project / "other", ("strom", "küche", "garten"))
    refused(
        project,
        3,
        "teacher.members.1.model answers strom, küche, garten, but teacher.members.0.model answers strom, küche, "
        "schuhe: all members must have the same labels",
        recipe({"kind": "several", "members": [MODEL, OTHER]}),
    )


def test_errors_of_a_member_are_told_under_its_key(project: Path) -> None:
    members: list[dict[str, Any]] = [MODEL, {"model": "./nowhere"}]
    refused(project, 3, "teacher.members.1.model: there is no", recipe({"kind": "several", "members": members}))
    members = [MODEL, SCORES | {"path": "fehlt.csv"}]
    refused(project, 3, "teacher.members.1.path: there is no", recipe({"kind": "several", "members": members}))


def test_more_folds_than_rows_of_a_label(project: Path) -> None:
    rows = rows_of("classification", ROWS["train"], 0)
    kept = [row for row in rows if row["kategorie"] != "strom"]
    write_csv(project / "wenige.csv", [*kept, *[row for row in rows if row["kategorie"] == "strom"][:2]])
    given = recipe(MODEL | {"train": {"folds": 3}})
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

    dumped = resolve(recipe(TAUGHT), Path("recipe.yaml")).recipe.dump()["teacher"]
    assert dumped.keys() == {"kind", "model", "revision", "max_length", "train", "trust_remote_code"}
    assert "folds" not in dumped["train"]
