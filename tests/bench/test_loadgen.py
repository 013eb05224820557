"""Requests by MLPerf LoadGen: our figures are its own, latency counts from the scheduled arrival, nothing crashes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.bench import measure
from compress.bench.lanes import Contender, Instruments
from compress.bench.loadgen import Load, audited, collect, drive, load_name
from compress.bench.measure import run_bench
from compress.bench.memory import Memory
from compress.bench.pace import Pace
from compress.bench.results import Scenario
from compress.bench.statistics import early_stopping_estimate
from compress.errors import EnvironmentProblem
from compress.recipe import Bench
from compress.runtime.predictor import Request
from tests.bench.test_measure import contender

PERCENTILES = {"50.00": 50, "90.00": 90, "99.00": 99, "99.90": 99.9}


def asleep(milliseconds: float) -> Any:
    """A model that answers a call in a time."""
    return lambda numbers: time.sleep(milliseconds / 1000)


@pytest.mark.parametrize(
    ("scenario", "load"),
    [
        ("single-stream", {"queries": 800}),
        ("multi-stream", {"queries": 700, "batch": 8}),
        ("server", {"queries": 700, "qps": 1500}),
        ("offline", {"queries": 90, "batch": 16}),
    ],
)
def test_our_figures_are_those_of_loadgens_summary(scenario: Scenario, load: dict[str, Any]) -> None:
    sizes: list[int] = []

    def answer(numbers: Sequence[int]) -> None:
        sizes.append(len(numbers))
        assert all(0 <= number < 20 for number in numbers)
        time.sleep(0.0002)

    found = drive(Load(scenario, library=20, **load), answer)
    latencies = np.array(found.latencies_ns)
    assert len(latencies) == load["queries"]
    assert int(found.summary["Min latency (ns)"]) == latencies.min()
    assert int(found.summary["Max latency (ns)"]) == latencies.max()
    assert int(found.summary["Mean latency (ns)"]) == pytest.approx(latencies.mean(), abs=1)
    for name, share in PERCENTILES.items():
        theirs = int(found.summary[f"{name} percentile latency (ns)"])
        ours = np.sort(latencies)[max(0, int(len(latencies) * share / 100) - 1) :][:3]
        assert ours[0] <= theirs <= ours[-1]
    if scenario == "offline":
        assert sizes == [16] * 5 + [10]
        rate = float(found.summary["Samples per second"])
        assert load["queries"] / found.span_ns * 1e9 == pytest.approx(rate, rel=0.01)
    else:
        assert set(sizes) == {load.get("batch", 1)}
    if scenario == "server":
        rate = float(found.summary["Completed samples per second"])
        assert load["queries"] / found.span_ns * 1e9 == pytest.approx(rate, rel=0.01)
    if scenario == "single-stream":
        theirs = int(found.summary["Early stopping 99.0th percentile estimate"])
        assert early_stopping_estimate(np.sort(latencies).astype(float)) == theirs


def test_latency_counts_from_the_scheduled_arrival() -> None:
    """Twice as many arrivals as one worker can answer: each query waits longer than the one before."""
    found = drive(Load("server", queries=100, library=5, qps=500), asleep(4))
    assert found.latencies_ns[-1] > 50 * 1.5e6
    assert found.latencies_ns[-1] > 3 * found.latencies_ns[20]
    assert found.span_ns >= 100 * 4e6


def test_equal_loads_ask_the_same_in_the_same_order() -> None:
    def asked(seed: int) -> list[int]:
        order: list[int] = []
        drive(Load("server", queries=50, library=30, qps=5000, seed=seed), order.extend)
        return order

    assert asked(1) == asked(1) != asked(2)


def test_an_error_of_the_model_comes_out_and_the_next_run_works() -> None:
    def broken(numbers: Sequence[int]) -> None:
        raise ValueError("the model is broken")

    with pytest.raises(ValueError, match="the model is broken"):
        drive(Load("single-stream", queries=50, library=5), broken)
    assert len(drive(Load("single-stream", queries=50, library=5), asleep(0)).latencies_ns) == 50


def test_ctrl_c_is_handled_once_loadgen_has_ended() -> None:
    calls = []

    def answer(numbers: Sequence[int]) -> None:
        calls.append(numbers)
        if len(calls) == 10:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        drive(Load("server", queries=60, library=5, qps=1000), answer)
    assert len(calls) == 10
    assert signal.getsignal(signal.SIGINT) is before


def test_accuracy_mode_logs_each_row_once() -> None:
    truth = np.random.default_rng(0).standard_normal((37, 3)).astype(np.float32)
    sizes = []

    def answer(rows: Sequence[int]) -> Any:
        sizes.append(len(rows))
        return truth[list(rows)]

    assert np.array_equal(collect(37, answer, batch=8), truth)
    assert sizes == [8, 8, 8, 8, 5]


def test_an_audit_configuration_replaces_settings_and_its_log_has_answers() -> None:
    asked: list[int] = []

    def answer(rows: Sequence[int]) -> Any:
        asked.extend(rows)
        return np.array([[row, -row] for row in rows], np.float32)

    load = Load("single-stream", queries=70, library=10)
    logged = audited(load, answer, {"accuracy_log_sampling_target": 70}).logged
    assert [(row, list(said)) for row, said in logged] == [(row, [row, -row]) for row in asked]
    asked.clear()
    found = audited(load, answer, {"performance_issue_same": 1, "performance_issue_same_index": 3})
    assert asked == 70 * asked[:1]
    assert found.logged == []
    assert found.summary["performance_issue_same"] == "1"


def test_an_audit_configuration_that_lies_about_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LoadGen reads one in the current folder by default, and would time something else."""
    (tmp_path / "audit.config").write_text("*.*.performance_issue_same = 1\n")
    monkeypatch.chdir(tmp_path)
    asked: list[int] = []
    drive(Load("single-stream", queries=70, library=10), asked.extend)
    assert len(set(asked)) > 1


class Sleeper:
    """Answers a call in its number of milliseconds."""

    def __init__(self, milliseconds: float) -> None:
        self.milliseconds = milliseconds

    def encode(self, requests: Sequence[Request]) -> None:
        return None

    def answer(self, requests: Sequence[Request], batch_size: int = 32) -> None:
        assert len(requests) <= batch_size
        time.sleep(self.milliseconds / 1000)


INSTRUMENTS = Instruments(
    open=lambda folder, threads, target: Sleeper(float(folder.name)),
    memory=lambda folder, requests, **how: Memory(1.0),
    pace=Pace(lambda: 100),
)


def test_the_bench_has_a_row_for_each_scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "WARM_SECONDS", 0.05)
    two: list[Contender] = [contender(tmp_path, "1"), contender(tmp_path, "0.2")]
    bench = Bench(scenarios=["server", "multi-stream", "offline"], qps=400, loadgen=True, requests=80, rounds=2)
    rows = run_bench(two, [Request("a"), Request("b")], bench, instruments=INSTRUMENTS)
    assert [(row.artifact, row.scenario, row.batch) for row in rows] == [
        (name, scenario, batch)
        for scenario, batch in (("server", 1), ("multi-stream", 8), ("offline", 32))
        for name in ("1", "0.2")
    ]
    assert {row.load for row in rows} == {load_name()}
    server, _, streams, *_, offline = rows
    assert (server.offered_qps, server.requests, server.rounds) == (400, 80, 2)
    assert (streams.offered_qps, streams.requests) == (None, 80)
    assert offline.requests == 128
    assert server.min_ms is not None
    assert server.p50_ms is not None
    assert server.p99_ms is not None
    assert 1 <= server.min_ms <= server.p50_ms <= server.p99_ms
    assert server.qps is not None
    assert 0 < server.qps < 700


def test_recipes_without_the_new_keys_have_the_digest_that_they_had() -> None:
    dumped = Bench().model_dump()
    assert list(dumped) == ["targets", "threads", "scenarios", "batch_size", "requests", "rounds"]
    assert Bench(scenarios=["server"], qps=5).model_dump()["qps"] == 5
    assert not Bench().asks_loadgen
    assert Bench(scenarios=["multi-stream"]).asks_loadgen
    for wrong in ({"scenarios": ["server"]}, {"qps": 5}):
        with pytest.raises(ValueError, match="server and qps belong together"):
            Bench.model_validate(wrong)


def test_a_missing_loadgen_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.extras.available", lambda package: False)
    with pytest.raises(EnvironmentProblem, match=r"kdc\[bench\]"):
        drive(Load("server", queries=5, library=5, qps=100), asleep(0))


def test_help_does_not_import_loadgen() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from compress.cli import app;"
        "CliRunner().invoke(app, ['bench', '--help']);"
        "sys.exit(int(not {'mlperf_loadgen', 'torch', 'onnxruntime'}.isdisjoint(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
