"""Several teachers at once: their weighted mixture, gate, seeds and temperature, from recipe to outputs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.artifacts import ONNX, read_artifact
from compress.data.encode import encode_examples
from compress.data.load import load_splits
from compress.predict import predict_logits
from compress.recipe.file import load_recipe
from compress.steps import answers, panel, teaching
from compress.steps.context import Run
from compress.teachers.arrays import read_outputs
from compress.teachers.calibration import calibrate
from compress.teachers.several import confident_shares
from tests import tiny_models, tiny_teachers
from tests.tiny_numbers import COLUMNS, make_number_project, number_recipe, priced_rows, ranked_rows
from tests.tiny_project import LABELS, ROWS, kdc, kdc_json, rows_of, statuses, write_csv, write_recipe
from tests.tiny_teachers import HALF, MODEL, SCORES, TAUGHT, distilled, given_scores, logits_of, probabilities, quickest

one_thread = pytest.fixture(scope="module", autouse=True)(tiny_models.one_thread)
project = pytest.fixture(scope="module")(tiny_teachers.project)


@pytest.fixture
def nothing_new(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither is a model made nor a teacher asked."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("made or asked again")

    with monkeypatch.context() as patch:
        patch.setattr(teaching, "make_model", refuse)
        patch.setattr(answers, "compute_outputs", refuse)
        yield


@pytest.fixture(scope="module")
def alone(project: Path) -> dict[str, Any]:
    """A run of one of the teachers by itself."""
    return distilled(project, quickest(MODEL))


def test_a_model_and_a_file_of_scores_teach_together(project: Path, alone: dict[str, Any]) -> None:
    teacher = {"kind": "several", "members": [SCORES | {"weight": 3}, MODEL]}
    result = kdc("distill", write_recipe(project, quickest(teacher)), "--runs", project / "runs", "--json")
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
    even = distilled(project, quickest({"kind": "several", "members": members}))
    theirs, own = given_scores(project), probabilities(logits_of(alone))
    assert logits_of(even) == pytest.approx(np.log((theirs + own) / 2), abs=HALF)

    seen: list[int] = []

    def gate(logits: np.ndarray, labels: np.ndarray | None, weights: list[float]) -> np.ndarray:
        seen.append(0 if labels is None else len(labels))
        return confident_shares(logits, labels, weights)

    monkeypatch.setattr(panel, "confident_shares", gate)
    gated = distilled(project, quickest({"kind": "several", "members": members, "gate": "confidence"}))
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
    found = distilled(project, quickest({"kind": "several", "members": members}, top_k=1))
    mixed = (given_scores(project) + probabilities(logits_of(alone))) / 2
    said = read_outputs(Path(found["run"]) / "outputs")
    assert said.classes is not None
    assert (said.classes[:, 0] == mixed.argmax(1)).all()
    expected = np.log(np.stack([mixed.max(1), 1 - mixed.max(1)], 1))
    assert said.logits == pytest.approx(expected, abs=HALF)


def test_an_ensemble_is_members_that_differ_in_seed(project: Path) -> None:
    teacher = {"kind": "several", "members": [TAUGHT | {"seed": 5}, TAUGHT | {"seed": 6}]}
    found = distilled(project, quickest(teacher))
    folder = Path(found["run"]) / "teacher" / "models"
    weights = [read_artifact(folder / name) for name in "01"]
    assert weights[0] is not None
    assert weights[1] is not None
    assert weights[0].files["model.safetensors"] != weights[1].files["model.safetensors"]
    assert [member["seed"] for member in found["models"]["teacher"]["members"]] == [5, 6]
    single = distilled(project, quickest(TAUGHT) | {"seed": 6})
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


def test_a_mixture_is_divided_by_the_temperature_of_validation(project: Path, alone: dict[str, Any]) -> None:
    members = [SCORES | {"weight": 9}, MODEL]
    given = quickest({"kind": "several", "members": members, "calibrate": True})
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
    given = write_recipe(project, quickest(MODEL | {"calibrate": True}))
    result = kdc("distill", given, "--runs", project / "runs", "--json")
    found = json.loads(result.stdout)
    assert statuses(found)["teacher"] == "reused"
    assert "the teacher is right on all 48 validation rows, which tell of no temperature" in result.stderr
    assert (logits_of(found) == logits_of(alone)).all()


@pytest.mark.long
def test_a_whole_run_of_several_times_the_lead(project: Path) -> None:
    teacher = {"kind": "several", "members": [SCORES, MODEL], "gate": "confidence", "calibrate": True}
    found = kdc_json("run", write_recipe(project, quickest(teacher)), "--runs", project / "runs")
    assert (Path(found["run"]) / "onnx" / "teacher" / ONNX).is_file()
    assert {row["artifact"] for row in found["latency"]} == {"teacher", "student", "shipped"}
    assert found["models"]["teacher"]["calibration"]["temperature"] > 0
    certified = {each["role"]: each["whole"]["metric"] for each in found["certificate"]["comparisons"]}
    together = found["models"]["teacher"]["quality"][found["metric"]]
    assert certified["teacher"]["reference"] == pytest.approx(together, abs=1e-6)
    assert "2 teachers together" in (Path(found["run"]) / "report.html").read_text(encoding="utf-8")
    planned = [row["stage"] for row in kdc_json("check", project / "recipe.yaml")["stages"]]
    assert planned == [name for name, status in statuses(found).items() if status != "skipped"]
