"""`kdc run` from end to end: what it leaves, what it says, and what the next command takes over."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from compress.artifacts import list_files, read_artifact, verify_artifact
from compress.bench.results import BenchResult
from compress.recipe.file import load_recipe
from compress.runtime.bundle import BENCH, open_bundle
from compress.runtime.predictor import Predictor, Request
from tests import tiny_models
from tests.tiny_project import (
    ROWS,
    SUMMARY_KEYS,
    kdc,
    kdc_json,
    leftovers,
    recipe_of,
    rows_of,
    statuses,
    write_csv,
    write_recipe,
)

STAGES = (
    "baseline",
    "teacher",
    "outputs",
    "student",
    "control",
    "onnx",
    "aware",
    "quantized",
    "engines",
    "bench",
    "bundle",
)
UNASKED = ("aware", "engines")
"""Skipped unless the recipe asks for them."""
MODELS = {"baseline", "teacher", "control", "student", "shipped"}

one_thread = pytest.fixture(scope="module", autouse=True)(tiny_models.one_thread)
quick_bench = pytest.fixture(scope="module", autouse=True)(tiny_models.quick_bench)


@dataclass(frozen=True)
class Ran:
    """A finished run and what it said on stdout."""

    task: str
    kind: str
    recipe: Path
    runs: Path
    summary: dict[str, Any]

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.summary["run"])

    def test_requests(self) -> list[Request]:
        """The rows of the test split."""
        rows = rows_of(self.task, ROWS["test"], 2)
        return [Request(row["titel"], row.get("angebot"), row["nr"]) for row in rows]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("classification", "transformer"), id="classification-transformer", marks=pytest.mark.long),
        pytest.param(("classification", "mobile"), id="classification-mobile"),
        pytest.param(("pairs", "transformer"), id="pairs-transformer", marks=pytest.mark.long),
        pytest.param(("pairs", "mobile"), id="pairs-mobile", marks=pytest.mark.long),
        pytest.param(("classification", "residual"), id="classification-residual", marks=pytest.mark.long),
        pytest.param(("pairs", "residual"), id="pairs-residual", marks=pytest.mark.long),
        pytest.param(("classification", "static"), id="classification-static", marks=pytest.mark.long),
        pytest.param(("pairs", "static"), id="pairs-static"),
    ],
)
def ran(request: pytest.FixtureRequest, tiny_project: Path) -> Ran:
    """A run of each task with each family of students."""
    task, kind = request.param
    recipe = write_recipe(tiny_project, recipe_of(task, kind), f"{task}-{kind}.yaml")
    runs = tiny_project / "runs"
    return Ran(task, kind, recipe, runs, kdc_json("run", recipe, "--runs", runs))


def test_every_stage_leaves_a_folder_whose_hashes_verify(ran: Ran) -> None:
    made = [stage for stage in STAGES if stage not in UNASKED]
    shas = {}
    for stage in made:
        folder = ran.folder / stage
        artifact = read_artifact(folder)
        assert artifact is not None, stage
        verify_artifact(folder, artifact)
        assert artifact.files or stage == "bench"  # whose figures stand in the artifact itself
        assert artifact.files == list_files(folder)
        assert (artifact.kind, artifact.status) == (stage, "done")
        assert {name: shas[name] for name in artifact.parents} == artifact.parents
        shas[stage] = artifact.sha256
    assert not [stage for stage in UNASKED if (ran.folder / stage).exists()]
    assert leftovers(ran.runs) == []


def test_the_run_folder_tells_everything_again(ran: Ran) -> None:
    assert json.loads((ran.folder / "summary.json").read_bytes()) == ran.summary
    again, first = load_recipe(ran.folder / "recipe.yaml"), load_recipe(ran.recipe)
    assert again.recipe == first.recipe
    assert ran.folder.name == f"{first.recipe.name}-{first.recipe.digest[:10]}"
    report = (ran.folder / "report.html").read_text(encoding="utf-8")
    assert ran.summary["name"] in report
    assert not [word for word in ('src="http', 'href="http', "@import", "url(http") if word in report]


def test_the_summary_has_the_keys_of_the_contract(ran: Ran) -> None:
    summary = ran.summary
    assert summary.keys() >= SUMMARY_KEYS
    sure = summary["models"]["teacher"]["certainty"]["training"]
    assert sure["rows"] == kdc_json("check", ran.recipe)["data"]["train"]
    assert 0 < sure["mean"] <= 1
    assert 0 <= sure["unsure"] <= 1
    expected = {stage: "skipped" if stage in UNASKED else "done" for stage in STAGES}
    found = statuses(summary)
    assert list(found) == list(STAGES)
    planned = [row["stage"] for row in kdc_json("check", ran.recipe)["stages"]]
    assert planned == [stage for stage in STAGES if found[stage] != "skipped"]
    # runs of this module share a folder, so a teacher may have been taught by another one
    assert {stage: "done" if status == "reused" else status for stage, status in found.items()} == expected
    assert all(row["seconds"] >= 0 for row in summary["stages"])
    assert set(summary["models"]) == MODELS
    for name, model in summary["models"].items():
        assert 0 <= model["quality"]["accuracy"] <= 1
        assert model["quality"].keys() >= {summary["metric"], "macro_f1"}
        if name != "baseline":
            assert model["size_bytes"] > 0
            assert model["parameters"] > 0
    for row in summary["latency"]:
        BenchResult.model_validate(row)
        assert row["status"] == "ok"
    assert {row["artifact"] for row in summary["latency"]} == MODELS - {"baseline"}
    assert summary["gates"] == [
        {
            "gate": "quantize.max_quality_loss",
            "limit": 1.0,
            "value": summary["parity"]["quantized"]["quality_loss"],
            "passed": True,
        }
    ]


def test_the_headline_figures_follow_from_the_models(ran: Ran) -> None:
    summary, metric = ran.summary, ran.summary["metric"]
    quality = {name: model["quality"][metric] for name, model in summary["models"].items()}
    p50 = {row["artifact"]: row["p50_ms"] for row in summary["latency"]}
    assert summary["metric"] == ("macro_f1" if ran.task == "classification" else "f1")
    assert summary["retention"] == pytest.approx(quality["shipped"] / quality["teacher"])
    assert summary["distillation_gain"] == pytest.approx(quality["student"] - quality["control"])
    assert summary["speedup"] == pytest.approx(p50["teacher"] / p50["shipped"])
    if ran.task == "classification":  # the words give it away, so a model that was put together rightly learns it
        assert quality["teacher"] > 0.9
        assert quality["student"] > 0.5
        assert summary["parity"]["onnx"]["argmax_agreement"] > 0.9
    assert [entry["stage"] for entry in summary["history"]["student"]] == ["imitate", "align"]
    assert {"loss", "soft", "hidden", "hard", "metric", "learning_rate"} <= summary["history"]["student"][1].keys()


def test_the_bundle_verifies_and_answers_as_the_shipped_model(ran: Ran, tmp_path: Path) -> None:
    bundle = ran.summary["bundle"]
    verified = kdc_json("verify", bundle)
    assert verified["ok"]
    assert verified["golden"]["label_mismatches"] == 0
    rows = rows_of(ran.task, ROWS["test"], 2)
    second = ["--text-pair", "angebot"] if ran.task == "pairs" else []
    requests = write_csv(tmp_path / "anfragen.csv", rows)
    said = kdc("predict", bundle, requests, "--text", "titel", "--id", "nr", *second)
    assert said.exit_code == 0, said.stderr
    assert kdc("predict", bundle, requests, "--id", "nr").stdout == said.stdout  # the columns of the training data
    answers = [json.loads(line) for line in said.stdout.splitlines()]
    shipped = Predictor.from_folder(ran.folder / "quantized").answer(ran.test_requests())
    assert [answer["id"] for answer in answers] == [row["nr"] for row in rows]
    assert [answer["label"] for answer in answers] == [answer.label for answer in shipped]
    for answer, expected in zip(answers, shipped, strict=True):
        assert answer["score"] == pytest.approx(expected.score, abs=1e-5)
    right = [
        answer["label"] == row["kategorie" if ran.task == "classification" else "gleich"]
        for answer, row in zip(answers, rows, strict=True)
    ]
    assert sum(right) / len(right) == pytest.approx(ran.summary["models"]["shipped"]["quality"]["accuracy"])


def test_the_same_command_again_makes_nothing_anew(ran: Ran) -> None:
    before = {stage: read_artifact(ran.folder / stage) for stage in STAGES}
    again = kdc_json("run", ran.recipe, "--runs", ran.runs)
    unsafe = bool(ran.summary["device"].get("warnings"))  # timings of a busy machine are taken, and packed, again
    fixed = [stage for stage in STAGES if stage not in ("bench", "bundle") or not unsafe]
    expected = {stage: "skipped" if stage in UNASKED else "reused" for stage in fixed}
    assert statuses(again) == expected | ({"bench": "done", "bundle": "done"} if unsafe else {})
    assert {stage: read_artifact(ran.folder / stage) for stage in fixed} == {stage: before[stage] for stage in fixed}
    if unsafe:  # other timings have other digits, and the bundle carries them
        again["models"]["shipped"]["bundle_bytes"] = ran.summary["models"]["shipped"]["bundle_bytes"]
    assert again["models"] == ran.summary["models"]


def test_a_run_signs_its_bundle_and_leaves_it_signed(ran: Ran, tmp_path: Path) -> None:
    """Nothing but the bundle is made anew for another key, and nothing for the same one."""
    bundles = []
    for name in ("owner", "stranger"):
        kdc_json("keygen", "-o", tmp_path / name)
        signed = kdc_json("package", ran.recipe, "--runs", ran.runs, "--sign", tmp_path / f"{name}.key")
        done = [stage for stage, status in statuses(signed).items() if status == "done" and stage != "bench"]
        assert done == ["bundle"]
        bundles.append(Path(signed["bundle"]).read_bytes())
        assert kdc_json("verify", signed["bundle"], "--key", tmp_path / f"{name}.pub")["signature"] == "verified"
    assert bundles[0] != bundles[1]
    again = kdc_json("package", ran.recipe, "--runs", ran.runs)
    if statuses(again)["bench"] == "reused":  # else what it is made of has changed
        assert Path(again["bundle"]).read_bytes() == bundles[1]
    timed = json.loads(open_bundle(Path(again["bundle"])).members[BENCH])
    assert timed["latency"] == again["latency"]


def test_an_earlier_command_keeps_the_figures_of_later_stages(ran: Ran) -> None:
    """`kdc teach` after `kdc run` does not empty the report."""
    again = kdc_json("teach", ran.recipe, "--runs", ran.runs)
    assert set(statuses(again)) == set(STAGES) - set(UNASKED)
    # the bundle may have been signed since
    again["models"]["shipped"]["bundle_bytes"] = ran.summary["models"]["shipped"]["bundle_bytes"]
    for key in ("models", "retention", "distillation_gain", "parity", "bundle"):
        assert again[key] == ran.summary[key], key
    assert again["latency"]
    kept = json.loads((ran.folder / "summary.json").read_bytes())
    assert kept.keys() == again.keys()
    assert kept["latency"] == again["latency"]


def test_another_student_takes_over_the_teacher(ran: Ran, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(ran.folder, runs / ran.folder.name)
    other = "distill.batch_size=16" if ran.kind == "transformer" else "student.width=24"
    changes = ["--set", other, "--set", "distill.control=false"]
    found = kdc_json("distill", ran.recipe, "--runs", runs, *changes)
    assert statuses(found) == {
        "baseline": "reused",
        "teacher": "reused",
        "outputs": "reused",
        "student": "done",
        "control": "skipped",
    }
    assert found["run"] != str(runs / ran.folder.name)
    own, others = (read_artifact(folder / "teacher") for folder in (Path(found["run"]), runs / ran.folder.name))
    assert own == others
    assert found["models"]["teacher"] == ran.summary["models"]["teacher"]
    assert (found["distillation_gain"], found["bundle"], found["speedup"]) == (None, None, None)
