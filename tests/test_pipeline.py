"""`kdc run` from end to end: what it leaves, what it says, what it takes over, what it makes anew."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from compress.artifacts import ONNX, list_files, read_artifact, verify_artifact
from compress.bench.results import BenchResult
from compress.recipe import LoadedRecipe
from compress.recipe.file import load_recipe
from compress.runtime.bundle import BENCH, open_bundle
from compress.runtime.predictor import Predictor, Request
from tests import tiny_models
from tests.tiny_project import (
    COLOURS,
    LABELS,
    PAIR_HEAD,
    ROWS,
    kdc,
    kdc_json,
    leftovers,
    recipe_of,
    rows_of,
    statuses,
    titles,
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
KEYS = {"run", "bundle", "stages", "models", "retention", "distillation_gain", "latency", "speedup", "gates"}
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


# ---------------------------------------------------------------- what a run leaves and says


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
    assert summary.keys() >= KEYS
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


# ---------------------------------------------------------------- what makes a stage anew


@pytest.fixture
def project(tiny_project: Path, tmp_path: Path) -> Path:
    """A project of one's own to change, without runs."""
    copy = tmp_path / "project"
    shutil.copytree(tiny_project, copy, ignore=shutil.ignore_patterns("runs"))
    return copy


def test_seed_data_and_teacher_are_what_a_teacher_depends_on(project: Path) -> None:
    recipe = write_recipe(project, recipe_of("classification"))
    runs = project / "runs"

    def taught(*changes: str) -> dict[str, str]:
        options = [option for change in changes for option in ("--set", change)]
        return statuses(kdc_json("teach", recipe, "--runs", runs, *options))

    assert taught() == {"baseline": "done", "teacher": "done"}
    assert taught("student.width=64", "gates.p99_ms=9", "quantize.calibration=32") == {
        "baseline": "reused",
        "teacher": "reused",
    }
    assert taught("seed=4") == {"baseline": "done", "teacher": "done"}
    assert taught("teacher.max_length=24") == {"baseline": "reused", "teacher": "done"}
    rows = [row | {"titel": row["titel"] + " neu"} for row in rows_of("classification", ROWS["train"], 0)]
    write_csv(project / "classification-train.csv", rows)
    assert taught() == {"baseline": "done", "teacher": "done"}
    tokenizer = project / "teacher-classification" / "tokenizer_config.json"
    tokenizer.write_text(json.dumps(json.loads(tokenizer.read_text()) | {"model_max_length": 39}))
    assert taught() == {"baseline": "reused", "teacher": "done"}


def test_the_seed_decides_the_weights_of_a_new_head(project: Path) -> None:
    recipe = write_recipe(
        project,
        recipe_of("pairs", teacher={"model": "teacher-classification", "max_length": 32, "train": {"epochs": 1}}),
    )
    shas = []
    for seed, runs in ((3, "one"), (3, "two"), (4, "three")):
        found = kdc_json("teach", recipe, "--runs", project / runs, "--set", f"seed={seed}")
        artifact = read_artifact(Path(found["run"]) / "teacher")
        assert artifact is not None
        shas.append(artifact.files["model.safetensors"].sha256)
    assert shas[0] == shas[1] != shas[2]


def test_a_damaged_artifact_is_never_used(project: Path) -> None:
    recipe, runs = write_recipe(project, recipe_of("classification")), project / "runs"
    first = Path(kdc_json("teach", recipe, "--runs", runs)["run"])
    path = first / "teacher" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    refused = kdc("teach", recipe, "--runs", runs)
    assert refused.exit_code == 6
    assert f"{path} is damaged" in refused.stderr
    assert f"delete {first / 'teacher'}" in refused.stderr
    other = kdc("teach", recipe, "--runs", runs, "--set", "student.width=24", "--json")
    assert statuses(json.loads(other.stdout)) == {"baseline": "reused", "teacher": "done"}
    assert "teacher is not taken over" in other.stderr
    shutil.rmtree(first / "teacher")
    assert statuses(kdc_json("teach", recipe, "--runs", runs)) == {"baseline": "reused", "teacher": "reused"}


# ---------------------------------------------------------------- other teachers


def write_scores(path: Path, task: str, splits: tuple[str, ...]) -> None:
    """A file of probabilities for the labels, sure of the right one."""
    labels, column = (LABELS, "kategorie") if task == "classification" else (sorted(PAIR_HEAD), "gleich")
    rows = []
    for seed, (split, count) in enumerate(ROWS.items()):
        for row in rows_of(task, count, seed) if split in splits else []:
            rest = 0.1 / (len(labels) - 1)
            rows.append({"id": row["nr"]} | {label: 0.9 if row[column] == label else rest for label in labels})
    write_csv(path, rows)


def scores_recipe(path: str) -> dict[str, Any]:
    """A student that starts from nothing but a file of scores."""
    recipe = recipe_of("classification", teacher={"kind": "scores", "path": path})
    recipe["student"] = {
        "kind": "mobile",
        "width": 16,
        "blocks": 2,
        "kernel": 3,
        "init": "random",
        "vocabulary": {"train": 300},
    }
    stages = [{"name": "imitate", "epochs": 3, "learning_rate": 1e-2}]
    recipe["distill"] = {"stages": stages, "batch_size": 8}
    return recipe


@pytest.mark.long
def test_a_file_of_scores_teaches(project: Path) -> None:
    write_scores(project / "noten.csv", "classification", ("train", "validation", "test"))
    recipe = write_recipe(project, scores_recipe("noten.csv"))
    found = kdc_json("run", recipe, "--runs", project / "runs")
    assert found["models"]["teacher"]["quality"]["accuracy"] == 1.0
    assert found["models"]["teacher"]["size_bytes"] is None
    assert found["models"]["student"]["quality"]["accuracy"] > 0.5
    assert found["retention"] == pytest.approx(found["models"]["shipped"]["quality"]["macro_f1"])
    assert found["speedup"] is None
    assert {row["artifact"] for row in found["latency"]} == {"control", "student", "shipped"}
    assert kdc_json("verify", found["bundle"])["ok"]
    assert kdc("inspect", found["run"]).exit_code == 0


def test_scores_of_training_rows_alone_leave_the_teacher_unmeasured(project: Path) -> None:
    write_scores(project / "noten.csv", "classification", ("train",))
    recipe = write_recipe(project, scores_recipe("noten.csv"))
    done = kdc("quantize", recipe, "--runs", project / "runs", "--set", "distill.control=false", "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["models"]["teacher"]["quality"] is None
    assert {each["role"] for each in found["certificate"]["comparisons"]} == {"parent"}
    assert found["certificate"]["reason"] == found["models"]["teacher"]["reason"]
    assert "no scores for 48 of 48 rows of validation" in found["models"]["teacher"]["reason"]
    assert found["retention"] is None
    assert "the teacher's quality is not run" in done.stderr


@pytest.mark.long
def test_a_decoder_teaches_a_student_of_other_tokens(project: Path) -> None:
    tiny_models.gpt2_folder(project / "gpt", PAIR_HEAD)
    recipe = recipe_of("pairs", teacher={"model": "gpt", "max_length": 32})
    recipe["student"] = {
        "kind": "transformer",
        "layers": 2,
        "hidden": 16,
        "embedding_size": 8,
        "heads": 2,
        "init": "random",
        "vocabulary": {"train": 300},
    }
    found = kdc_json("run", write_recipe(project, recipe), "--runs", project / "runs")
    folder = Path(found["run"])
    assert (folder / "onnx" / "teacher" / ONNX).is_file()
    assert found["speedup"] > 0
    assert found["models"]["student"]["layer_map"] == [2, 4]
    assert found["models"]["student"]["vocabulary"]["trained"]
    with (folder / "student" / "model.safetensors").open("rb") as stream:
        assert b"word_embeddings.table.weight" in stream.read(100_000)
    request = Request(titles(1, 5)[0][0], f"Laufschuhe {COLOURS[0]}")
    teacher = Predictor.from_folder(folder / "onnx" / "teacher")
    assert teacher.answer([request])[0].label in PAIR_HEAD
    assert said_by_torch(load_recipe(folder / "recipe.yaml"), folder, request) == pytest.approx(
        teacher.logits([request])[0].tolist(), abs=1e-3
    )


def said_by_torch(loaded: LoadedRecipe, folder: Path, request: Request) -> list[float]:
    """The teacher's logits for one pair without ONNX."""
    import torch

    from compress.batch import Examples
    from compress.data.encode import encode_examples
    from compress.predict import predict_logits
    from compress.recipe import HuggingFaceTeacher
    from compress.teachers.huggingface import load_teacher

    assert isinstance(loaded.recipe.teacher, HuggingFaceTeacher)
    section = loaded.recipe.teacher.model_copy(update={"model": str(folder / "teacher")})
    labels = sorted(PAIR_HEAD)
    teacher = load_teacher(section, folder, task="pairs", labels=labels, positive="ja", trained=True)
    rows = Examples(ids=["0"], texts=[request.text], pairs=[request.text_pair or ""])
    logits = predict_logits(teacher.module, encode_examples(teacher.encoder, rows), torch.device("cpu"))
    return [float(value) for value in logits[0]]


# ---------------------------------------------------------------- gates


@pytest.fixture(scope="module")
def passed(tiny_project: Path) -> Path:
    """The recipe of a run that is finished, so that another gate is quickly judged."""
    recipe = write_recipe(tiny_project, recipe_of("classification", "mobile"), "classification-mobile.yaml")
    kdc_json("run", recipe, "--runs", tiny_project / "runs")
    return recipe


@pytest.mark.parametrize(
    ("gate", "change", "limit"),
    [
        ("p99_ms", "gates.p99_ms=0.000001", 1e-6),
        ("quality", "gates.quality={metric: accuracy, retain: 2}", 2),
        ("size_mb", "gates.size_mb=0.000001", 1e-6),
        ("speedup", "gates.speedup=1000000", 1e6),
    ],
)
def test_a_gate_that_is_not_met_ends_with_5_and_keeps_everything(
    passed: Path, tiny_project: Path, gate: str, change: str, limit: float
) -> None:
    done = kdc("run", passed, "--runs", tiny_project / "runs", "--set", change, "--json")
    assert done.exit_code == 5
    summary = json.loads(done.stdout)
    assert summary.keys() >= KEYS
    failed = [row for row in summary["gates"] if not row["passed"]]
    assert [(row["gate"], row["limit"]) for row in failed] == [(gate, limit)]
    assert f"kdc: gate {gate}: {failed[0]['value']:.4g}, limit {limit:.4g}" in done.stderr
    assert set(statuses(summary).values()) <= {"reused", "done", "skipped"}
    assert kdc_json("verify", summary["bundle"])["ok"]
    assert json.loads((Path(summary["run"]) / "summary.json").read_bytes()) == summary


def test_a_failed_gate_is_printed_with_the_summary(passed: Path, tiny_project: Path) -> None:
    done = kdc("run", passed, "--runs", tiny_project / "runs", "--set", "gates.p99_ms=0.000001")
    assert done.exit_code == 5
    assert "shipped" in done.stdout
    assert "gate p99_ms        NOT MET" in done.stdout


def test_a_gate_that_cannot_be_judged_is_not_met(passed: Path, tiny_project: Path) -> None:
    # the speed-up is a ratio of single-stream latencies
    changes = ("--set", "gates.speedup=2", "--set", "bench.scenarios=[offline]")
    done = kdc("run", passed, "--runs", tiny_project / "runs", *changes)
    assert done.exit_code == 5
    assert "gate speedup: not measured, limit 2" in done.stderr
    assert re.search("gate speedup +NOT MET: –, limit 2", done.stdout)


def negate(source: Path, target: Path) -> None:
    """Write a model that says the opposite of another."""
    import onnx

    model = onnx.load(str(source))
    for node in model.graph.node:
        node.output[:] = ["plain" if name == "logits" else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node("Neg", ["plain"], ["logits"]))
    onnx.save(model, str(target))


def test_a_loss_of_quality_by_quantization_marks_the_stage_as_failed(
    passed: Path, tiny_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compress.quantize import methods

    monkeypatch.setattr(methods, "quantize_static_int8", lambda source, target, *_, **__: negate(source, target))
    change = "quantize.max_quality_loss=0"
    for _ in range(2):  # made, then reused: it stays failed
        done = kdc("run", passed, "--runs", tiny_project / "runs", "--set", change, "--json")
        assert done.exit_code == 5
        summary = json.loads(done.stdout)
        row = next(row for row in summary["stages"] if row["stage"] == "quantized")
        assert row["status"] == "failed"
        assert "quality loss" in row["reason"]
        assert not summary["gates"][0]["passed"]
        assert "gate quantize.max_quality_loss" in done.stderr
        assert kdc_json("verify", summary["bundle"])["ok"]
    artifact = read_artifact(Path(summary["run"]) / "quantized")
    assert artifact is not None
    assert artifact.status == "failed"


def test_the_layer_that_costs_quality_stays_in_float(
    passed: Path, tiny_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compress.quantize import methods
    from compress.quantize.layers import layers_of
    from compress.quantize.preprocess import prepared

    quantize, spoiled = methods.quantize_static_int8, []

    def harmful(source: Path, target: Path, *given: Any, keep_float: frozenset[str], **options: Any) -> None:
        """The third convolution, once quantized, turns every answer into its opposite."""
        layers = [layer for layer in layers_of(prepared(source), source) if layer.operator == "Conv"]
        spoiled[:] = [layers[2]]
        quantize(source, target, *given, keep_float=keep_float, **options)
        if layers[2].node not in keep_float:
            negate(target, target)

    monkeypatch.setattr(methods, "quantize_static_int8", harmful)
    done = kdc("run", passed, "--runs", tiny_project / "runs", "--set", "quantize.max_quality_loss=0.4", "--json")
    assert done.exit_code == 0, done.stderr
    summary = json.loads(done.stdout)
    found = summary["guard"]
    assert found["met"]
    assert found["kept"] == [spoiled[0].title]
    assert found["before"]["value"] > 0.4 >= found["after"]["value"] == summary["parity"]["quantized"]["quality_loss"]
    assert found["after"]["low"] <= found["after"]["value"] <= found["after"]["high"]
    assert found["ranking"][0]["node"] == spoiled[0].node
    assert found["ranking"][0]["error"] > 1.5  # twice the answer, and rounding
    assert f"{summary['metric']} on" in found["measured"]
    assert f"layers stay in float, so that the quality loss is {found['after']['value']:.4f}" in done.stderr
    assert spoiled[0].title in done.stderr
    assert spoiled[0].title in Path(summary["report"]).read_text(encoding="utf-8")
    assert leftovers(Path(summary["run"])) == []


def test_an_export_that_says_something_else_than_torch_is_kept_marked_failed_and_ends_the_run(
    passed: Path, tiny_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compress.steps import shipping

    def spoiled(module: Any, target: Path, **options: Any) -> None:
        shipping_export(module, target, **options)
        negate(target, target)

    shipping_export = shipping.export_module
    command = ("run", passed, "--runs", tiny_project / "runs", "--set", "export=[{to: onnx, opset: 19}]", "--json")
    with monkeypatch.context() as patch:
        patch.setattr(shipping, "export_module", spoiled)
        done = kdc(*command)
    assert done.exit_code == 5
    assert re.search(
        r"onnx/student/model.onnx differs from torch by .* in a logit \(limit .*another export.opset",
        done.stderr,
    )
    summary = json.loads(done.stdout)
    assert summary["stages"][-1] | {"seconds": 0} == {
        "stage": "onnx",
        "status": "failed",
        "seconds": 0,
        "reason": summary["stages"][-1]["reason"],
    }
    assert "onnx/control/model.onnx differs" in summary["stages"][-1]["reason"]
    assert summary["bundle"] is None
    folder = Path(summary["run"]) / "onnx"
    artifact = read_artifact(folder)
    assert artifact is not None
    assert artifact.status == "failed"
    verify_artifact(folder, artifact)
    assert (folder / "student" / ONNX).is_file()
    assert statuses(json.loads(kdc(*command).stdout))["onnx"] == "done"  # nothing else has changed but what was wrong
