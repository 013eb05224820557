"""`kdc run` for ranking and regression from end to end: what it leaves, what it says, what it takes as a teacher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.artifacts import SPEC, ModelSpec
from tests import tiny_models
from tests.tiny_numbers import COLUMNS, make_number_project, number_recipe, priced_rows, ranked_rows
from tests.tiny_project import kdc, kdc_json, statuses, write_csv, write_recipe

METRICS = {"ranking": ("ndcg@10", "mrr@10", "map", "recall@10"), "regression": ("rmse", "mae", "spearman")}
ROWS = {"ranking": ranked_rows, "regression": priced_rows}

one_thread = pytest.fixture(scope="module", autouse=True)(tiny_models.one_thread)
quick_bench = pytest.fixture(scope="module", autouse=True)(tiny_models.quick_bench)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of both tasks and a BERT with one output."""
    return make_number_project(tmp_path_factory.mktemp("numbers"))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("ranking", "mobile"), id="ranking"),
        pytest.param(("regression", "transformer"), id="regression", marks=pytest.mark.long),
        pytest.param(("ranking", "residual"), id="ranking-residual", marks=pytest.mark.long),
        pytest.param(("regression", "static"), id="regression-static", marks=pytest.mark.long),
    ],
)
def ran(request: pytest.FixtureRequest, project: Path) -> dict[str, Any]:
    """The summary of a finished run."""
    task, student = request.param
    recipe = write_recipe(project, number_recipe(task, student), f"{task}.yaml")
    return kdc_json("run", recipe, "--runs", project / "runs")


def test_every_model_is_measured_in_the_metrics_of_the_task(ran: dict[str, Any]) -> None:
    task, metric = ran["task"], ran["metric"]
    assert metric == METRICS[task][0]
    assert ran["higher_is_better"] == (task == "ranking")
    quality = {name: model["quality"] for name, model in ran["models"].items()}
    assert quality.keys() == {"baseline", "teacher", "control", "student", "shipped"}
    assert all(tuple(found) == METRICS[task] for found in quality.values())
    ours, teachers = quality["shipped"][metric], quality["teacher"][metric]
    assert ran["retention"] == pytest.approx(ours / teachers if task == "ranking" else teachers / ours)
    gain = quality["student"][metric] - quality["control"][metric]
    assert ran["distillation_gain"] == pytest.approx(gain if task == "ranking" else -gain)
    assert statuses(ran)["bundle"] == "done"
    assert ran["models"]["shipped"]["threshold"] is None


def test_the_certificate_has_the_figures_of_the_task(ran: dict[str, Any]) -> None:
    task, quality = ran["task"], {name: model["quality"][ran["metric"]] for name, model in ran["models"].items()}
    for each in ran["certificate"]["comparisons"]:
        metric = each["whole"]["metric"]
        before = {"exported": "student"}.get(each["reference"], each["reference"])
        assert metric["reference"] == pytest.approx(quality[before], rel=1e-4)
        assert metric["low"] <= metric["difference"] <= metric["high"]
        own = {"ndcg_change", "top_k_overlap"} if task == "ranking" else {"spearman"}
        assert each["whole"].keys() >= own
        assert {part["by"] for part in each["slices"]} == ({"length"} if task == "ranking" else {"length", "label"})
    said = kdc("verify", ran["bundle"], "--certificate").stdout
    assert ("top-k" if task == "ranking" else "rank corr.") in said


def test_the_student_learns_something(ran: dict[str, Any]) -> None:
    """More than answering the same to everything."""
    if ran["task"] == "ranking":
        assert ran["models"]["student"]["quality"]["ndcg@10"] > 0.8
    else:
        truth = np.array([row["preis"] for row in priced_rows("test")])
        # the teacher of these tests knows next to nothing: what a student learns stands in the labels
        best = min(ran["models"][name]["quality"]["rmse"] for name in ("student", "control"))
        assert best < 1.02 * truth.std()
        assert ran["models"]["baseline"]["quality"]["rmse"] < 0.5 * truth.std()
    last = ran["history"]["student"][-1]
    terms = {"soft", "margin_mse", "listwise", "ranknet", "lambda_rank"} if ran["task"] == "ranking" else {"soft"}
    assert last.keys() >= terms | {"hidden", "hard", "loss", "metric"}
    assert all(np.isfinite(last[term]) for term in terms)


def test_the_float_and_the_shipped_model_say_nearly_the_same(ran: dict[str, Any]) -> None:
    for step in ("onnx", "quantized"):
        assert ran["parity"][step]["rank_correlation"] > 0.9
    assert abs(ran["parity"]["quantized"]["quality_loss"]) < 0.2


def test_the_bundle_answers_with_numbers(ran: dict[str, Any], tmp_path: Path) -> None:
    task = ran["task"]
    assert kdc_json("verify", ran["bundle"])["golden"]["requests"] == 16
    rows = ROWS[task]("test")
    second = ["--text-pair", "angebot"] if task == "ranking" else []
    said = kdc("predict", ran["bundle"], write_csv(tmp_path / "r.csv", rows), "--id", "nr", *second)
    assert said.exit_code == 0, said.stderr
    answers = [json.loads(line) for line in said.stdout.splitlines()]
    assert [answer.keys() for answer in answers] == [{"id", "score"}] * len(rows)
    assert [answer["id"] for answer in answers] == [row["nr"] for row in rows]
    if task == "regression":
        errors = np.array([answer["score"] - row["preis"] for answer, row in zip(answers, rows, strict=True)])
        shipped = ran["models"]["shipped"]["quality"]["rmse"]
        assert float((errors**2).mean() ** 0.5) == pytest.approx(shipped, rel=1e-4)
    spec = ModelSpec.model_validate_json((Path(ran["run"]) / "quantized" / SPEC).read_bytes())
    assert (spec.labels, spec.two_texts) == (("score",), task == "ranking")
    assert (spec.standard is None) == (task == "ranking")


def test_the_same_command_again_makes_nothing_anew(ran: dict[str, Any], project: Path) -> None:
    again = kdc_json("run", project / f"{ran['task']}.yaml", "--runs", project / "runs")
    assert set(statuses(again).values()) <= {"reused", "skipped", "done"}
    assert [stage for stage, status in statuses(again).items() if status == "done"] in (
        [],
        ["bench"],
        ["bench", "bundle"],
    )
    assert again["models"]["student"] == ran["models"]["student"]
    report = (Path(ran["run"]) / "report.html").read_text(encoding="utf-8")
    assert ran["metric"] in report


@pytest.mark.parametrize("task", ["ranking", "regression"])
def test_a_trained_model_with_one_output_teaches(project: Path, task: str) -> None:
    """As save_pretrained wrote it; its numbers are in the unit of the labels, and stay there when it is measured."""
    recipe = write_recipe(project, number_recipe(task, teacher={"model": "teacher", "max_length": 32}), "trained.yaml")
    found = kdc_json("teach", recipe, "--runs", project / "trained")
    spec = ModelSpec.model_validate_json((Path(found["run"]) / "teacher" / SPEC).read_bytes())
    if task == "ranking":
        assert spec.standard is None
        return
    # a random head answers around 0, about 1,100 from the prices
    assert spec.standard is not None
    assert found["models"]["teacher"]["quality"]["mae"] == pytest.approx(spec.standard.mean, rel=0.05)
    assert any("not worth distilling" in note for note in found["notes"])


@pytest.mark.parametrize("task", ["ranking", "regression"])
def test_a_file_of_scores_teaches(project: Path, task: str) -> None:
    """One number for each row, here the labels themselves: a perfect teacher."""
    label = COLUMNS[task]["label"]
    rows = [row for split in ("train", "validation", "test") for row in ROWS[task](split)]
    write_csv(project / f"{task}-scores.csv", [{"id": row["nr"], "score": row[label]} for row in rows])
    recipe = number_recipe(task, teacher={"kind": "scores", "path": f"{task}-scores.csv"})
    recipe["student"] |= {"init": "random", "vocabulary": {"train": 300}}
    recipe["distill"] = {"stages": [{"name": "imitate", "epochs": 1}], "control": False}
    found = kdc_json("distill", write_recipe(project, recipe, f"{task}-scores.yaml"), "--runs", project / "runs")
    perfect = {"ranking": {"ndcg@10": 1.0, "mrr@10": 1.0}, "regression": {"rmse": 0.0, "spearman": 1.0}}[task]
    quality = found["models"]["teacher"]["quality"]
    assert {name: quality[name] for name in perfect} == pytest.approx(perfect, abs=1e-3)


def test_a_gate_in_another_metric_is_refused_before_any_work(project: Path) -> None:
    gates = {"quality": {"metric": "ndcg@5", "retain": 0.9}}
    recipe = write_recipe(project, number_recipe("ranking", gates=gates), "gate.yaml")
    for command in ("check", "run"):
        refused = kdc(command, recipe, "--runs", project / "gates")
        assert refused.exit_code == 2
        assert "choose one of ndcg@10, mrr@10, map, recall@10" in refused.stderr


def test_transfer_rows_join_the_groups_of_their_queries(project: Path) -> None:
    """Made pairings are answered by the teacher and learned from together with the labelled rows."""
    recipe = number_recipe("ranking")
    recipe["data"]["transfer"] = {"random_pairs": 60, "hard_pairs": 10, "variants": 10}
    stages = [{"name": "imitate", "epochs": 1, "losses": {"listwise": 1.0, "hard": 0.5}}]
    recipe["distill"] = {"stages": stages, "batch_size": 16}
    recipe["teacher"]["train"]["epochs"] = 1
    found = kdc_json("distill", write_recipe(project, recipe, "transfer.yaml"), "--runs", project / "transfer")
    assert found["models"]["student"]["steps"] == found["models"]["control"]["steps"] >= 200 / 16
