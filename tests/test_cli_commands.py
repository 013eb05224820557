"""Each command of the command line: what it hands on, what it prints as text and as JSON, which options it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import compress
from compress.errors import GateError
from tests import fake_pipeline
from tests.fake_pipeline import SUMMARY, FakePipeline
from tests.tiny_project import kdc

recipe = pytest.fixture(fake_pipeline.recipe)
pipeline = pytest.fixture(fake_pipeline.pipeline)


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A `compress.paths` whose functions record their arguments."""
    fake = ModuleType("compress.paths")
    monkeypatch.setitem(sys.modules, "compress.paths", fake)
    monkeypatch.setattr(compress, "paths", fake, raising=False)
    return fake


# ---------------------------------------------------------------- run and stages


def test_run_prints_the_summary_table(recipe: Path, pipeline: FakePipeline) -> None:
    result = kdc("run", recipe, "--runs", "elsewhere", "--set", "seed=9")
    loaded, runs, until = pipeline.calls[0]
    assert (loaded.recipe.seed, runs, until) == (9, Path("elsewhere"), None)
    assert result.exit_code == 0
    for text in ("macro_f1", "22,713,986", "0.9100", "98.5%", "+0.0210", "31.0", "met", "simulated data"):
        assert text in result.stdout
    assert "runs/shop-1/report.html" in result.stdout
    assert "engines: skipped: not asked for" in result.stdout
    assert "a library prints this" not in result.stdout


@pytest.mark.parametrize("stage", ["teach", "distill", "quantize", "export", "bench", "package"])
def test_stage_commands_run_up_to_their_stage(recipe: Path, pipeline: FakePipeline, stage: str) -> None:
    assert kdc(stage, recipe).exit_code == 0
    assert pipeline.calls[0][2] == stage


def test_json_is_exactly_one_object(recipe: Path, pipeline: FakePipeline) -> None:
    assert json.loads(kdc("run", recipe, "--json").stdout) == SUMMARY


def test_a_missed_gate_still_prints_the_summary(recipe: Path, pipeline: FakePipeline) -> None:
    pipeline.error = GateError("p99_ms is 9, the limit is 5")
    pipeline.error.summary = SUMMARY
    result = kdc("run", recipe, "--json")
    assert result.exit_code == 5
    assert json.loads(result.stdout) == SUMMARY
    assert "98.5%" in kdc("run", recipe).stdout


def test_json_of_an_error(recipe: Path) -> None:
    result = kdc("run", recipe, "--set", "student.layers=0", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["exit_code"] == 2
    assert "student.layers" in json.loads(result.stdout)["error"]


# ---------------------------------------------------------------- paths instead of a recipe


def test_distill_without_a_recipe_makes_a_student_directory(tmp_path: Path, pipeline: FakePipeline) -> None:
    run = tmp_path / "run"
    (run / "student").mkdir(parents=True)
    (run / "student" / "model.json").write_text("{}")
    pipeline.summary = SUMMARY | {"run": str(run)}
    out = tmp_path / "out"
    options = [
        "--teacher",
        "t",
        "--train",
        "t.csv",
        "--student",
        "mobile:width=64",
        "--text",
        "title",
        "-o",
        out,
    ]
    assert kdc("distill", *options).exit_code == 0
    loaded, _, until = pipeline.calls[0]
    assert (loaded.recipe.student.kind, until) == ("mobile", "distill")
    assert (out / "model.json").is_file()
    assert kdc("distill", *options).exit_code == 0


def test_distill_keeps_its_hands_off_other_folders(tmp_path: Path, pipeline: FakePipeline) -> None:
    (tmp_path / "precious").write_text("x")
    options = ["--teacher", "t", "--train", "t.csv", "--student", "mobile", "-o", tmp_path]
    assert kdc("distill", *options).exit_code == 2
    assert (tmp_path / "precious").is_file()
    assert not pipeline.calls


def test_distill_needs_all_its_paths(pipeline: FakePipeline) -> None:
    result = kdc("distill", "--teacher", "t", "--json")
    assert result.exit_code == 2
    assert "--student" in json.loads(result.stdout)["error"]


def test_quantize_and_export_take_paths(paths: ModuleType) -> None:
    paths.quantize_path = lambda model, out, **options: {"model": model, "out": out} | options
    paths.export_path = paths.quantize_path
    made = json.loads(kdc("quantize", "m.onnx", "-o", "q.onnx", "--method", "static", "--json").stdout)
    assert made == {"model": "m.onnx", "out": "q.onnx", "calibration": None, "method": "static", "changes": []}
    made = json.loads(
        kdc("export", "m", "--to", "onnx", "--to", "tensorrt-rtx", "--gpu", "sm89", "-o", "d", "--json").stdout
    )
    assert (made["to"], made["gpus"]) == (["onnx", "tensorrt-rtx"], ["sm89"])
    assert kdc("quantize", "m.onnx").exit_code == 2


def test_bench_compares_artifacts(paths: ModuleType) -> None:
    def bench_paths(artifacts: list[Path], **options: object) -> list[dict[str, Any]]:
        row = {"target": "onnxruntime-cpu", "scenario": "offline", "threads": 1, "batch": 32, "p50_ms": 1.5}
        return [row | {"artifact": str(path), "status": "ok"} for path in artifacts]

    paths.bench_paths, paths.BenchOptions = bench_paths, SimpleNamespace
    assert [row["artifact"] for row in json.loads(kdc("bench", "a", "b", "--json").stdout)["latency"]] == [
        "a",
        "b",
    ]
    assert "1.500" in kdc("bench", "a[x]").stdout


def test_options_that_would_do_nothing_are_refused(recipe: Path, pipeline: FakePipeline) -> None:
    assert kdc("quantize", recipe, "--method", "static").exit_code == 2
    assert kdc("quantize", "m.onnx", "-o", "x", "--set", "seed=1").exit_code == 2
    assert not pipeline.calls


# ---------------------------------------------------------------- init, check, schema, doctor, inspect


@pytest.mark.parametrize("task", ["classification", "pairs", "ranking", "regression"])
def test_a_starter_passes_check(tmp_path: Path, task: str) -> None:
    assert kdc("init", tmp_path / "new", "--task", task).exit_code == 0
    result = kdc("check", tmp_path / "new" / "recipe.yaml", "--runs", tmp_path / "runs", "--json")
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    assert plan["data"]["train"] > 100
    assert [stage["stage"] for stage in plan["stages"]][:3] == ["baseline", "teacher", "outputs"]
    assert plan["disk_bytes"] < plan["free_bytes"]
    assert not (tmp_path / "runs").exists()
    assert "baseline" in kdc("check", tmp_path / "new" / "recipe.yaml").stdout
    assert kdc("init", tmp_path / "new").exit_code == 2


def test_check_asks_the_environment_before_the_data(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.check.available", lambda package: package != "tensorrt")
    result = kdc("check", recipe, "--set", "export=[{to: tensorrt}]", "--json")
    assert result.exit_code == 4
    assert "pip install 'kdc[tensorrt]'" in json.loads(result.stdout)["error"]


def test_check_refuses_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.check.free_bytes", lambda folder: 1000)
    kdc("init", tmp_path)
    result = kdc("check", tmp_path / "recipe.yaml", "--json")
    assert result.exit_code == 4
    assert "1,000 are free" in json.loads(result.stdout)["error"]


def test_schema_describes_every_key() -> None:
    schema = json.loads(kdc("schema").stdout)
    bare = [
        f"{name}.{key}"
        for name, part in schema["$defs"].items()
        for key, field in part.get("properties", {}).items()
        if not field.get("description") and "$ref" not in field
    ]
    assert bare == []


def test_doctor_names_the_command_for_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.doctor.available", lambda package: package != "tensorrt_rtx")
    items = {item["name"]: item for item in json.loads(kdc("doctor", "--json").stdout)["items"]}
    assert items["onnxruntime"]["available"]
    assert items["tensorrt-rtx"]["remedy"] == "pip install 'kdc[tensorrt-rtx]'"
    assert "pip install 'kdc[tensorrt-rtx]'" in kdc("doctor").stdout


def test_inspect_of_a_recipe_shows_it_resolved(recipe: Path) -> None:
    assert json.loads(kdc("inspect", recipe, "--json").stdout)["recipe"]["seed"] == 7
