"""Several processes answer at once: pooled, summed, pinned, ended; and what cannot be meant is a sentence."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from compress.artifacts import ONNX
from compress.bench import affinity, machine, measure, processes
from compress.bench.compare import compare
from compress.bench.files import read_results
from compress.bench.lanes import Contender, Instruments
from compress.bench.measure import bench_cells, run_bench
from compress.bench.memory import Memory
from compress.bench.pace import Pace
from compress.bench.processes import Alone, Asked, Calls, Team, _Prepare, obey
from compress.bench.results import BenchResult
from compress.cli import app
from compress.errors import DataError, EnvironmentProblem, IntegrityError, RecipeError
from compress.paths import session
from compress.recipe import Bench
from compress.runtime.predictor import Request
from tests.tiny import tiny_deployable, tiny_requests

REQUESTS = [Request(f"text {number}") for number in range(8)]
NO_MEMORY = Instruments(memory=lambda *_, **__: Memory(1.0), pace=Pace(lambda: 100))
CORE = min(machine.usable())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_deployable(tmp_path / "model")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "WARM_SECONDS", 0.05)


class FakeTeam:
    """Two processes, of which one takes 1 ms for a call and the other 3 ms; they end 1 ms after the slower one."""

    processes = 2

    def __init__(self) -> None:
        self.asked: list[Sequence[Calls]] = []
        self.closed = False

    def prepare(self, calls: Sequence[Calls], untimed: int) -> None:
        self.asked.append(calls)

    def ask(self) -> Asked:
        calls = len(self.asked[-1][0])
        return Asked([1_000_000] * calls + [3_000_000] * calls, 8_000_000 * calls, (3 * calls + 1) * 1_000_000)

    def encode(self) -> list[int]:
        return [200_000] * len(self.asked[-1][0]) * 2

    def close(self) -> None:
        self.closed = True


def fake_row(
    scenario: str, model: Path, monkeypatch: pytest.MonkeyPatch, **fields: Any
) -> tuple[BenchResult, FakeTeam]:
    team = FakeTeam()
    monkeypatch.setattr(measure, "open_asker", lambda *_: team)
    bench = Bench.model_validate({"scenarios": [scenario], "requests": 20, "rounds": 2, "processes": 2} | fields)
    (row,) = run_bench([Contender("model", model)], REQUESTS, bench, instruments=NO_MEMORY)
    return row, team


def test_latencies_are_pooled_and_requests_of_all_counted(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row, team = fake_row("single-stream", model, monkeypatch)
    assert (row.processes, row.affinity, row.threads) == (2, None, 1)
    assert (row.requests, row.rounds) == (40, 2), "each process answers as many as one alone would"
    assert (row.min_ms, row.p50_ms, row.p99_ms) == (1.0, 2.0, 3.0)
    assert row.qps == pytest.approx(40 / (2 * 31e-3)), "from the first call of a round to the last answer"
    assert row.cpu_ms == pytest.approx(4)
    assert row.tokenizer_ms == pytest.approx(0.2)
    assert team.closed


def test_offline_counts_the_requests_of_all_batches(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(affinity, "usable", lambda: {0, 1, 2, 3})
    row, _ = fake_row("offline", model, monkeypatch, batch_size=5, affinity=[[0, 1], [2, 3]])
    assert (row.batch, row.requests, row.affinity) == (5, 40, "0,1 2,3")
    assert row.qps == pytest.approx(40 / (2 * 7e-3))


def test_ctrl_c_keeps_finished_rounds_and_ends_the_processes(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    team, ask = FakeTeam(), FakeTeam.ask
    monkeypatch.setattr(measure, "open_asker", lambda *_: team)
    timed = 0

    def interrupted(self: FakeTeam) -> Asked:
        nonlocal timed
        timed += len(self.asked[-1][0]) > 1
        if timed == 2:
            raise KeyboardInterrupt
        return ask(self)

    monkeypatch.setattr(FakeTeam, "ask", interrupted)
    bench = Bench(scenarios=("single-stream",), requests=20, rounds=2, processes=2)
    cells = bench_cells([Contender("model", model)], REQUESTS, bench, instruments=NO_MEMORY)
    ((row,),) = [next(cells)]
    assert (row.partial, row.rounds, row.requests) == (True, 1, 20)
    with pytest.raises(KeyboardInterrupt):
        next(cells)
    assert team.closed


def test_processes_ask_the_same_requests_from_another_one_on(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, team = fake_row("single-stream", model, monkeypatch)
    first, second = ([call[0].text for call in calls] for calls in team.asked[-1])
    assert len(first) == len(second) == 10
    assert sorted(first[:8]) == sorted(second[:8]) == sorted(request.text for request in REQUESTS)
    assert first[0] != second[0]


class Diary:
    """A model that notes what it is asked."""

    def __init__(self) -> None:
        self.answered: list[tuple[int, bool]] = []

    def answer(self, requests: Sequence[Request], batch_size: int = 32) -> None:
        if requests[0].text == "refused":
            raise DataError("request 1 has an empty text")
        self.answered.append((len(requests), gc.isenabled()))

    def encode(self, requests: Sequence[Request]) -> None:
        """Nothing to read."""


def test_a_process_obeys_until_the_other_end_is_closed() -> None:
    here, there = multiprocessing.Pipe()
    diary, ended = Diary(), threading.Event()
    clock = iter(range(0, 10**9, 1000))

    def work() -> None:
        with pytest.raises(EOFError):
            obey(there, Alone(diary, lambda: next(clock), lambda: 0))
        ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        here.send(_Prepare([REQUESTS[:2], REQUESTS[2:3]], 3))
        assert here.recv() is None
        assert [size for size, _ in diary.answered] == [2, 1, 2], "the untimed calls"
        here.send("ask")
        timed = here.recv()
        assert timed.asked == Asked([1000, 1000], 0, 2000)
        assert timed.ended >= timed.began
        here.send("encode")
        assert here.recv() == [1000, 1000]
        here.send(_Prepare([[Request("refused")]], 1))
        assert isinstance(here.recv(), DataError)
        assert not any(collecting for _, collecting in diary.answered), "no pause while calls are timed"
    finally:
        here.close()
        thread.join(10)
        gc.enable()
    assert ended.is_set()


def test_a_team_is_pinned_answers_and_leaves_nobody_behind(model: Path) -> None:
    team = Team(model, 1, "onnxruntime-cpu", processes=2, affinity=[[CORE], [CORE]])
    try:
        members = [member for member, _ in team._members]
        assert [os.sched_getaffinity(member.pid or 0) for member in members] == [{CORE}, {CORE}]
        asked = tiny_requests()
        team.prepare([[asked[:1], asked[1:2]], [asked[2:]]], 1)
        found = team.ask()
        assert len(found.calls) == 3
        assert found.span >= max(found.calls) > 0
        assert len(team.encode()) == 3
        os.kill(members[1].pid or 0, signal.SIGKILL)
        with pytest.raises(EnvironmentProblem, match=r"process 2 of 2 .* ended with -9; .* fewer --processes"):
            team.prepare([[asked], [asked]], 0)
    finally:
        team.close()
    assert multiprocessing.active_children() == []


def test_a_damaged_model_is_told_by_the_process_that_opened_it(model: Path) -> None:
    (model / ONNX).write_bytes(b"nothing")
    with pytest.raises(IntegrityError, match="cannot be loaded by onnxruntime"):
        Team(model, 1, "onnxruntime-cpu", processes=2, affinity=None)
    assert multiprocessing.active_children() == []


def bench(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["bench", *(str(argument) for argument in arguments), "--quiet"])


def test_from_the_command_line_to_the_file(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.memory, "taken", lambda *_, **__: Memory(1.0))
    monkeypatch.setattr(session.start_up, "startup_ms", lambda *_, **__: 1.0)
    out = tmp_path / "rows.jsonl"
    done = bench(
        *(model, "--processes", 2, "--affinity", CORE, "--affinity", CORE, "--queries", 20, "-o", out),
        *("--scenario", "single-stream", "--price-per-core-hour", 3.6, "--fail-if", "p50_ms>0", "--format", "markdown"),
    )
    assert done.exit_code == 5
    (row,) = read_results(out)
    assert (row["processes"], row["affinity"], row["status"]) == (2, f"{CORE} {CORE}", "ok")
    assert row["requests"] == 40
    assert row["cost_per_million"] == pytest.approx(2 * 3.6 / 3600 * 1e6 / row["qps"])
    assert "2 processes of 1 thread(s)): p50_ms is" in done.stderr
    assert "2 threads (2 processes of 1) were asked for, but this process may use 1 cores" in done.stderr
    assert "| processes |" in done.stdout.splitlines()[0]
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--processes", 2, "--scenario", "server", "--qps", 5], 2, "--processes and --affinity have no effect where"),
        (["--processes", 2, "--loadgen"], 2, "--processes and --affinity have no effect where MLPerf LoadGen asks"),
        (["--processes", 2, "--find-qps", "--p99-ms", 5], 2, "no effect together with --find-qps"),
        (["--processes", 2, "--affinity", "0"], 2, "--affinity has cores of 1 processes, --processes is 2"),
        (["--affinity", "0", "--affinity", "1"], 2, "--affinity has cores of 2 processes, --processes is 1"),
        (["--affinity", "first"], 2, "--affinity is 'first', but cores are expected, such as 0 or 0-3"),
        (["--affinity", "3-1"], 2, "--affinity is '3-1', which names no core"),
        (["--affinity", "0,0"], 2, "names a core twice"),
        (["--affinity", "4000"], 4, "names core 4000, but this process may use"),
        (["--processes", 0], 2, "processes"),
        (["--processes", 300], 2, "--processes is 300"),
        (["--target", "gpu"], 2, "--target is 'gpu'"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(model: Path, arguments: list[object], code: int, sentence: str) -> None:
    done = bench(model, *arguments)
    assert done.exit_code == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_cores_are_written_as_for_taskset() -> None:
    assert affinity.read_cores("0-2,5") == (0, 1, 2, 5)
    assert affinity.affinity_text([(0, 1), (2,)]) == "0,1 2"
    assert affinity.affinity_text(None) is None
    with pytest.raises(RecipeError):
        affinity.read_cores("-1")


def test_threads_of_all_processes_are_held_against_their_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: 4)
    monkeypatch.setattr(machine, "cgroup_cpus", lambda: None)
    assert machine.thread_warnings([2], 2) == []
    assert (
        "6 threads (3 processes of 2) were asked for, but this process may use 4" in machine.thread_warnings([2], 3)[0]
    )
    assert "may use 1 cores" in machine.thread_warnings([1], 2, [[0], [0]])[0]
    assert "a process of 2 threads is pinned to 1 core(s)" in machine.thread_warnings([2], 2, [[0], [1, 2, 3]])[0]
    assert machine.thread_warnings([1], 2, [[0], [1]]) == []


def test_rows_of_other_processes_are_not_compared() -> None:
    def row(**fields: Any) -> dict[str, Any]:
        given = {"artifact": "m", "scenario": "offline", "threads": 1, "qps": 10.0} | fields
        return BenchResult(**given).model_dump()

    older = {name: value for name, value in row().items() if name not in ("processes", "affinity")}
    (found,) = compare([older], [row(qps=30.0)])
    assert found["qps_ratio"] == pytest.approx(3)
    for other in ({"processes": 2}, {"affinity": "0"}):
        with pytest.raises(DataError, match="no measurement in common"):
            compare([row()], [row(**other)])


def test_recipes_without_processes_are_what_they_were() -> None:
    assert {"processes", "affinity"}.isdisjoint(Bench().model_dump(mode="json"))
    assert json.loads(Bench(processes=2, affinity=((0,), (1,))).model_dump_json())["affinity"] == [[0], [1]]
    with pytest.raises(ValueError, match="give cores for each process"):
        Bench(processes=2, affinity=((0,),))
    with pytest.raises(ValueError, match="which knows one process"):
        Bench(processes=2, scenarios=("multi-stream",))


def test_a_process_whose_answer_nobody_reads_ends_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-C the other end is closed with an answer in it: the next order is a reset, not an end of file."""
    here, there = multiprocessing.Pipe()
    monkeypatch.setattr(processes.signal, "signal", lambda *_: None)
    monkeypatch.setattr("compress.bench.targets.open_model", lambda *_: None)

    def leave() -> None:
        here.poll(10)
        here.close()

    leaving = threading.Thread(target=leave)
    leaving.start()
    try:
        processes._work(there, Path(), 1, "onnxruntime-cpu", None)
    finally:
        leaving.join()
        gc.enable()
