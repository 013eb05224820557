"""`kdc bench` from the command line: exit codes, files, forms of output, Ctrl-C."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from compress.bench import bare, measure
from compress.bench.files import read_results
from compress.cli import app
from compress.paths import timing
from compress.runtime.predictor import Predictor, Request
from tests.tiny import tiny_deployable


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "WARM_SECONDS", 0.05)
    monkeypatch.setattr(timing.memory, "peak_mb", lambda *_, **__: 1.0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_deployable(tmp_path / "model", "classification")


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", *(str(argument) for argument in arguments), "--quiet"])


def test_a_server_row_in_a_file_and_as_json(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlperf_loadgen")
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
    pytest.importorskip("mlperf_loadgen")
    done = bench(model, "--find-qps", "--p99-ms", 0.0001, "--json")
    assert done.exit_code == 5
    (row,) = json.loads(done.stdout)["latency"]
    assert row["offered_qps"] is None
    assert "the lowest p99 seen is" in done.stderr


def test_ctrl_c_keeps_the_finished_rounds(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario before is complete; of the one that was interrupted what was finished is marked partial."""
    answered = 0

    class Interrupting(Predictor):
        def answer(self, requests: Sequence[Request], batch_size: int = 32) -> Any:
            nonlocal answered
            answered += len(requests) == 4
            if answered == measure.WARM_CALLS + 25:
                raise KeyboardInterrupt
            return super().answer(requests, batch_size)

    monkeypatch.setattr(bare, "Predictor", Interrupting)
    monkeypatch.setattr(timing, "_section", lambda *_: timing.Bench(batch_size=4, requests=100, rounds=10))
    out = tmp_path / "results.jsonl"
    done = bench(model, "-o", out)
    assert done.exit_code == 130
    single, offline = read_results(out)
    assert (single["scenario"], single["partial"], single["rounds"]) == ("single-stream", None, 10)
    assert (offline["scenario"], offline["partial"]) == ("offline", True)
    assert 0 < offline["rounds"] < 10
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
        (["--fail-if", "speed>3"], 2, "--fail-if names 'speed'"),
        (["--json", "--format", "csv"], 2, "two forms of one output"),
        (["--compare"], 2, "--compare takes two files"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(model: Path, arguments: list[str], code: int, sentence: str) -> None:
    done = bench(model, *arguments)
    assert done.exit_code == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_foreign_results_file_is_refused_before_the_work(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "notes.jsonl"
    out.write_text('{"schema": 7}\n')
    done = bench(model, "-o", out)
    assert done.exit_code == 3
    assert "schema 7" in done.stderr
    assert out.read_text() == '{"schema": 7}\n'
    assert bench("--compare", out, tmp_path / "none.jsonl").exit_code == 3


def test_more_threads_than_cores_are_warned_of(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.bench.machine.usable_cores", lambda: 2)
    done = bench(model, "--scenario", "single-stream", "--queries", 10, "--threads", 3)
    assert done.exit_code == 0
    assert "3 threads were asked for, but this process may use 2 cores" in done.stderr
