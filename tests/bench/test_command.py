"""`kdc bench` from the command line: exit codes, files, forms of output, Ctrl-C."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from compress.bench import measure
from compress.bench.files import read_results
from compress.cli import app
from compress.errors import EnvironmentProblem
from compress.paths import session
from tests.tiny import tiny_deployable


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "WARM_SECONDS", 0.05)
    monkeypatch.setattr(session.memory, "peak_mb", lambda *_, **__: 1.0)
    monkeypatch.setattr(session.start_up, "startup_ms", lambda *_, **__: 1.0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_deployable(tmp_path / "model", "classification")


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", *(str(argument) for argument in arguments), "--quiet"])


def test_a_server_row_in_a_file_and_as_json(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlperf_loadgen", reason="not run: mlcommons-loadgen is not installed")
    out = tmp_path / "results.jsonl"
    done = bench(
        model, "--scenario", "server", "--qps", 2000, "--queries", 50, "-o", out, "--json", "--fail-if", "p99_ms>1e6"
    )
    assert done.exit_code == 0, done.output
    (printed,) = json.loads(done.stdout)["latency"]
    (kept,) = read_results(out)
    assert (kept["scenario"], kept["offered_qps"], kept["requests"]) == ("server", 2000, 50)
    assert printed.items() <= kept.items()
    assert kept["device"]["cores"] >= 1
    assert len(kept["sha256"]) == 64


def test_a_limit_that_is_broken_ends_with_5_after_the_rows(model: Path) -> None:
    done = bench(model, "--scenario", "single-stream", "--queries", 20, "--fail-if", "p50_ms>0", "--format", "csv")
    assert done.exit_code == 5
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert float(row["p50_ms"]) > 0
    assert "p50_ms>0: model (onnxruntime-cpu, single-stream, 1 thread(s)): p50_ms is" in done.stderr


def test_two_files_compared(model: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    for out in (one, other):
        assert bench(model, "--scenario", "single-stream", "--queries", 20, "-o", out).exit_code == 0
    done = bench("--compare", one, other, "--format", "markdown")
    assert done.exit_code == 0
    assert "p50_ms_ratio" in done.stdout.splitlines()[0]
    assert bench("--compare", one, other, "--fail-if", "p50_ms_ratio>0").exit_code == 5
    assert bench("--compare", one, other, "--json").exit_code == 0
    assert "×" in bench("--compare", one, other).stdout


def test_no_rate_holds_the_bound(model: Path) -> None:
    pytest.importorskip("mlperf_loadgen", reason="not run: mlcommons-loadgen is not installed")
    done = bench(model, "--find-qps", "--p99-ms", 0.0001, "--json")
    assert done.exit_code == 5
    (row,) = json.loads(done.stdout)["latency"]
    assert row["offered_qps"] is None
    assert "the lowest p99 seen is" in done.stderr


def test_ctrl_c_keeps_the_finished_rounds(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario before is complete; of the one that was interrupted what was finished is marked partial."""
    turn, offline_turns = measure._Scenario._turn, 0

    def interrupted(self: Any, *arguments: Any) -> None:
        nonlocal offline_turns
        offline_turns += self.scenario == "offline"
        if offline_turns == 2:
            raise KeyboardInterrupt
        turn(self, *arguments)

    monkeypatch.setattr(measure._Scenario, "_turn", interrupted)
    out = tmp_path / "results.jsonl"
    done = bench(model, "--queries", 20, "-o", out)
    assert done.exit_code == 130
    single, offline = read_results(out)
    assert (single["scenario"], single["partial"]) == ("single-stream", None)
    assert (offline["scenario"], offline["partial"], offline["rounds"]) == ("offline", True, 1)
    assert offline["p50_ms"] > 0
    assert f"2 rows were measured and are in {out}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--scenario", "server"], 2, "--scenario server and --qps belong together"),
        (["--qps", "100"], 2, "--scenario server and --qps belong together"),
        (["--scenario", "server", "--qps", "-1"], 2, "--qps is -1"),
        (["--scenario", "burst"], 2, "--scenario is"),
        (["--find-qps"], 2, "--find-qps and --p99-ms belong together"),
        (["--find-qps", "--p99-ms", "5", "--qps", "3"], 2, "--qps has no effect together with --find-qps"),
        (["--find-qps", "--p99-ms", "5", "--queries", "30", "--loadgen"], 2, "have no effect together with --find-qps"),
        (["--fail-if", "speed>3"], 2, "--fail-if names 'speed'"),
        (["--fail-if", "artifact>3"], 2, "--fail-if names 'artifact', which is no figure of a row"),
        (["--json", "--format", "csv"], 2, "two forms of one output"),
        (["--compare"], 2, "--compare takes two files"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(model: Path, arguments: list[str], code: int, sentence: str) -> None:
    done = bench(model, *arguments)
    assert done.exit_code == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_while_starting_up_keeps_the_latencies(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(session.start_up, "startup_ms", interrupted)
    out = tmp_path / "results.jsonl"
    assert bench(model, "--scenario", "single-stream", "--queries", 10, "-o", out).exit_code == 130
    (row,) = read_results(out)
    assert row["partial"] is True
    assert row["p50_ms"] > 0


def test_a_foreign_results_file_is_refused_before_the_work(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "notes.jsonl"
    out.write_text('{"schema": 7}\n')
    done = bench(model, "-o", out)
    assert done.exit_code == 3
    assert "schema 7" in done.stderr
    assert out.read_text() == '{"schema": 7}\n'
    assert bench("--compare", out, tmp_path / "none.jsonl").exit_code == 3


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ('{"text": "red shoe", "label": "cat"}\n', "the data are of another task than the model"),
        ('{"text": "red shoe"}\n', "has no 'label'"),
        ('{"title": "red shoe", "label": "shoes"}\n', "has no 'text'"),
        ('{"text": "red shoe", "label": null}\n', "data.txt:1 has no label (it is None)"),
        ('{"text": "a", "label": "shoes"}\n{"text": "b", "label": NaN}\n', "data.txt:2 has no label (it is nan)"),
        ("text,label\nred shoe,shoes\nblue shoe,\n", "data.txt:3 has no label (it is '')"),
        ('{"text": "red shoe", "label": ["shoes"]}\n', "data.txt:1 has ['shoes'] under 'label'"),
        ('{"text": "red shoe", "label": "shoes", "group": {}}\n', "data.txt:1 has {} under 'group'"),
        ("", "is empty"),
        ("text,label\n", "has a header and no request below it"),
    ],
)
def test_data_that_do_not_fit_end_with_3(model: Path, tmp_path: Path, rows: str, sentence: str) -> None:
    data = tmp_path / "data.txt"
    data.write_text(rows)
    done = bench(model, "--data", data, "-o", tmp_path / "out.jsonl")
    assert done.exit_code == 3
    assert not (tmp_path / "out.jsonl").exists()
    assert sentence in done.stderr


@pytest.mark.parametrize("option", ["--data", "--requests"])
def test_texts_that_no_model_reads_are_refused(model: Path, tmp_path: Path, option: str) -> None:
    bare = tmp_path / "bare.onnx"
    shutil.copy(model / "model.onnx", bare)
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "red shoe", "label": "shoes"}\n')
    done = bench(bare, option, texts)
    assert done.exit_code == 2
    assert f"{option} needs texts, but bare.onnx has no tokenizer.json" in done.stderr


def test_what_was_measured_is_printed_where_the_disk_is_full(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: Any) -> None:
        raise EnvironmentProblem(f"the disk is full: {path}")

    monkeypatch.setattr(session, "append_results", full)
    done = bench(model, "--scenario", "single-stream", "--queries", 10, "-o", tmp_path / "r.jsonl", "--format", "csv")
    assert done.exit_code == 4
    assert "the disk is full" in done.stderr
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert row["scenario"] == "single-stream"


def test_more_threads_than_cores_are_warned_of(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.bench.machine.usable_cores", lambda: 2)
    done = bench(model, "--scenario", "single-stream", "--queries", 10, "--threads", 3)
    assert done.exit_code == 0
    assert "3 threads were asked for, but this process may use 2 cores" in done.stderr
