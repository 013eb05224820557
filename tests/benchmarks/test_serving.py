"""What the serving benchmarks rest on: arrivals, verdicts, tables; the figures are for the benchmarks to say."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from benchmarks import serving as engines
from benchmarks import serving_p99, soak
from benchmarks.arrivals import replay
from benchmarks.common import ROOT
from benchmarks.http_load import Connection, get, post
from benchmarks.peer_environments import PLACE
from benchmarks.serving_table import draw_serving
from benchmarks.soak_memory import CRITERION, GROWTH, Sample, judge
from tests.serve.servers import serving, tiny_bundle


def samples(oldest: list[float]) -> list[Sample]:
    return [Sample(10.0 * n, 50.0, (mb, 80.0), 7.5) for n, mb in enumerate(oldest)]


def test_replay_asks_at_the_given_times_and_counts_from_them(tmp_path: Path) -> None:
    with serving(tiny_bundle(tmp_path / "served.kdc")) as server:
        good, bad = post("/v1/predict", b'{"text": "shoe"}'), get("/nothing")
        arrivals = [0, 150_000_000, 150_000_000, 400_000_000]
        start = time.perf_counter_ns()
        seen = replay(server.port, [good, good, bad, good], arrivals)
        took = time.perf_counter_ns() - start
    assert seen.statuses == {200: 3, 404: 1}
    assert len(seen.latencies_ns) == len(seen.late_ns) == 4
    assert took > 400_000_000
    assert 0 < min(seen.latencies_ns) <= max(seen.latencies_ns) < took
    assert min(seen.late_ns) >= 0


@pytest.mark.parametrize("missing", [None, "serving could not be installed: no index"])
def test_a_peer_that_does_not_serve_is_a_row(
    missing: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the engine after it is measured."""
    start = engines.command_of

    def command(engine: str, bundle: Path, port: int) -> list[str]:
        broken = [sys.executable, "-c", "raise SystemExit(3)"]
        return broken if engine == "fastapi+granian" else start(engine, bundle, port)

    out, bundle = tmp_path / "rows.jsonl", tiny_bundle(tmp_path / "tiny.kdc")
    monkeypatch.setattr(engines, "command_of", command)
    monkeypatch.setattr(engines, "enter", lambda name, module: missing)
    asked = ["--engine", "fastapi+granian", "--engine", "starlette+uvicorn"]
    monkeypatch.setattr(
        sys, "argv", ["serving", str(bundle), *asked, "--rounds", "1", "--seconds", "0.2", "--out", str(out)]
    )
    engines.main()
    peer, ours = map(json.loads, out.read_text(encoding="utf-8").splitlines())
    assert peer["engine"] == "fastapi+granian"
    assert "most" not in peer
    assert missing == peer["not_run"] if missing else "does not serve (exit code 3)" in peer["not_run"]
    assert ours["most"]["per_second"] > 0
    assert ours["open_loop"]["rate"] == pytest.approx(0.7 * ours["most"]["per_second"], abs=0.1)
    assert "not_run" not in ours
    assert peer["not_run"] in capsys.readouterr().out


def test_a_peer_that_answers_otherwise_is_a_row_and_ours_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, other = tiny_bundle(tmp_path / "tiny.kdc"), tiny_bundle(tmp_path / "other.kdc", seed=1)
    start = engines.command_of
    monkeypatch.setattr(engines, "command_of", lambda engine, bundle, port: start("starlette+uvicorn", other, port))
    (row,) = engines.measure(bundle, ["litserve"], 1, 0.2)
    assert row["not_run"].startswith("IntegrityError: golden request 0 is answered with 200 ")
    assert "most" not in row
    with pytest.raises(engines.IntegrityError, match="golden request 0 is answered with 200 "):
        list(engines.measure(bundle, ["kdc serve"], 1, 0.2))


def test_a_server_that_never_answers_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor may hold the port while its workers end again and again."""
    monkeypatch.setattr(engines, "PATIENCE_SECONDS", 5.0)
    silent = "import socket, sys, time; held = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"
    monkeypatch.setattr(engines, "command_of", lambda _, __, port: [sys.executable, "-c", silent, str(port)])
    (row,) = engines.measure(tiny_bundle(tmp_path / "tiny.kdc"), ["bentoml"], 1, 0.2)
    assert row["not_run"] == "EnvironmentProblem: no answer to all golden requests within 5 s"


SUPERVISOR = """
import subprocess, sys, time
worker = "import signal, socket, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
worker += "held = socket.create_server(('127.0.0.1', int(sys.argv[1]))); end = time.process_time() + 0.5"
worker += chr(10) + "while time.process_time() < end: pass" + chr(10) + "time.sleep(60)"
subprocess.run([sys.executable, "-c", worker, sys.argv[1]], start_new_session=True)
"""


def test_workers_in_sessions_of_their_own_are_counted_and_ended() -> None:
    port = engines.free_port()
    with engines.serving([sys.executable, "-c", SUPERVISOR, str(port)], port) as server:
        (worker,) = {each.pid for each in engines.processes(server.pid)} - {server.pid}
        assert os.getsid(worker) == worker
        end = time.monotonic() + 60
        while engines.cpu_seconds(server.pid) < 0.5:
            assert time.monotonic() < end
            time.sleep(0.05)
    assert server.poll() is not None
    until_gone(worker)


def until_gone(process: int) -> None:
    """An end that nobody has taken notice of yet counts too: its command line is empty."""
    end = time.monotonic() + 10
    with suppress(FileNotFoundError, ProcessLookupError):
        while Path(f"/proc/{process}/cmdline").read_bytes():
            assert time.monotonic() < end, f"process {process} outlived its supervisor"
            time.sleep(0.02)


@pytest.mark.long
@pytest.mark.parametrize("engine", ["litserve", "bentoml"])
def test_peers_answer_as_this_process_does_and_leave_nothing_behind(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (PLACE / "serving" / "pins.json").is_file():
        pytest.skip("not run: the peers have no environment here; `python -m benchmarks.serving` makes it")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "executable", str(PLACE / "serving" / "bin" / "python"))
    monkeypatch.setattr(engines, "end", lambda those: None)
    bundle, port = tiny_bundle(tmp_path / "tiny.kdc"), engines.free_port()
    with engines.serving(engines.command_of(engine, bundle, port), port) as server:
        asyncio.run(engines.check_answers(port, engines.bodies(bundle), engines.answers(bundle)))
        started = engines.processes(server.pid)
        refused = asyncio.run(_asked(port, b'{"text": 3}'))
    assert len(started) > 1
    assert refused in (400, 422)
    assert server.returncode == 0
    assert not list(home.iterdir())
    for process in started:
        until_gone(process.pid)


async def _asked(port: int, body: bytes) -> int:
    connection = await Connection.open(port)
    try:
        return (await connection.ask(post("/v1/predict", body))).status
    finally:
        connection.close()


def test_both_ways_are_asked_alike_and_a_row_is_appended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serving_p99, "LEAST_QUERIES", 20)
    out, bundle = tmp_path / "rows.jsonl", tiny_bundle(tmp_path / "tiny.kdc")
    given = ["--p99-ms", "50", "--highest-qps", "100", "--rounds", "2", "--seconds", "0.5", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["serving_p99", str(bundle), *given])
    serving_p99.main()
    (row,) = map(json.loads, out.read_text().splitlines())
    assert row == json.loads(capsys.readouterr().out)
    assert (row["qps"], row["queries"], row["statuses"]) == (70.0, 2 * 35, {"200": 70})
    assert row["p99_ratio"] == pytest.approx(sum(row["p99_ratio_by_round"]) / 2, abs=2e-3)
    assert "| tiny.kdc | 50 | 100 | 70 | 0 |" in draw_serving([row], [])
    serving_p99.check(row | {"p99_ratio": 2.0})
    with pytest.raises(serving_p99.GateError, match=r"2\.1 times that in process, the limit is 2"):
        serving_p99.check(row | {"p99_ratio": 2.1})
    with pytest.raises(serving_p99.GateError, match=r"not every request was answered with 200: \{'429': 1\}"):
        serving_p99.check(row | {"statuses": {"200": 69, "429": 1}})


def test_memory_is_flat_where_no_median_grows_beyond_the_share() -> None:
    steady = judge(samples([100.0] * 10 + [90.0] * 30), 60)
    assert (steady["flat"], steady["oldest_worker"]["ratio"]) == (True, 1.0)
    assert steady["all"] == {"second_quarter": 227.5, "last_quarter": 227.5, "ratio": 1.0}
    for growth, flat in ((GROWTH - 0.01, True), (GROWTH + 0.01, False)):
        assert judge(samples([100.0] * 20 + [100 * (1 + growth)] * 20), 60)["flat"] is flat
    assert judge(samples([100.0] * 8), 1)["flat"] is None
    assert judge([], 60) == {"criterion": CRITERION, "flat": None}


def test_a_soak_fails_for_what_must_not_happen() -> None:
    row: dict[str, Any] = {"bundle": "a.kdc", "wrong": 0, "lost": 0, "exit_code": 0, "memory_mb": {"flat": None}}
    soak.check(row)
    for fault in ({"wrong": 1}, {"lost": 2}, {"exit_code": 1}, {"memory_mb": {"flat": False}}):
        with pytest.raises(soak.GateError, match=r"^a.kdc: "):
            soak.check(row | fault)


@pytest.mark.parametrize(("changed", "fits"), [(1e-6, True), (1e-4, False)])
def test_answers_are_the_same_but_for_last_digits(changed: float, *, fits: bool) -> None:
    wanted = {"answers": [{"id": None, "label": "a", "score": 0.5}]}
    found = {"answers": [{"id": None, "label": "a", "score": 0.5 + changed}]}
    assert soak.same(found, wanted, soak.TOLERANCE) is fits
    assert not soak.same({"answers": []}, wanted, soak.TOLERANCE)


@pytest.mark.parametrize(
    ("changed", "fits", "rounded"),
    [
        ({"score": 0.5 + 1e-6}, True, 0),
        ({"score": 0.51}, True, 1),
        ({"score": 0.53}, False, 0),
        ({"label": "b"}, False, 0),
    ],
)
def test_what_int8_rounds_otherwise_in_a_batch_is_told_apart(
    tmp_path: Path, changed: dict[str, Any], *, fits: bool, rounded: int
) -> None:
    seen = soak.Seen()
    load = soak.Load(0, soak.Truth(tiny_bundle(tmp_path / "tiny.kdc")), seen)
    wanted = {"id": None, "label": "a", "score": 0.5}
    assert load.same(wanted | changed, wanted) is fits
    assert seen.rounded == rounded


def test_the_table_of_engines_has_medians_of_the_last_session_and_why_one_failed() -> None:
    made: dict[str, Any] = {
        "benchmark": "serving",
        "bundle": "a.kdc",
        "date": "2026-11-23T",
        "commit": "c",
        "changed": False,
    }

    def row(engine: str, number: int, most: float) -> dict[str, Any]:
        loads = {"most": {"per_second": most, "cpu_ms": 1.0}, "open_loop": {"share": 0.7, "p50_ms": 2.0, "p99_ms": 9.0}}
        return {**made, "engine": engine, "round": number, **loads}

    early = row("quick", 0, 9e9)
    del early["open_loop"]["share"]
    failed = {**made, "engine": "broken", "round": 0, "not_run": "it fell"}
    rows = [early, row("slow", 0, 7e9), failed, row("slow", 0, 100), row("quick", 0, 1000), row("quick", 1, 3000)]
    lines = [line for line in draw_serving(rows, []).splitlines() if line.startswith("| a.kdc")]
    assert lines == [
        "| a.kdc | quick | 2,000 | 1.00 | 2.00 | 9.00 | 2 | 2026-11-23, c |",
        "| a.kdc | slow | 100 | 1.00 | 2.00 | 9.00 | 1 | 2026-11-23, c |",
        "| a.kdc | broken | – | – | – | – | 1; not run: it fell | 2026-11-23, c |",
    ]
