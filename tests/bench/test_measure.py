"""The bench takes turns, counts honestly and keeps to its budget; a fake clock makes every figure exact."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.artifacts import ONNX, SPEC, TOKENIZER
from compress.bench.lanes import Contender, Instruments
from compress.bench.measure import TURN_CALLS, WARM_CALLS, run_bench, summarise
from compress.bench.memory import Memory
from compress.bench.pace import Pace, work_ns
from compress.recipe import Bench
from compress.runtime.predictor import Request

REQUESTS = [Request(f"text {i}") for i in range(50)]


@dataclass
class FakeMachine:
    """A clock that only models move, and a diary of what was answered."""

    now: int = 0
    cpu: int = 0
    diary: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    collecting: list[bool] = field(default_factory=list)
    looks: list[int] = field(default_factory=list)

    def instruments(self, milliseconds: dict[str, float]) -> Instruments:
        return Instruments(
            open=lambda folder, threads, target: FakePredictor(self, folder.name, milliseconds[folder.name]),
            clock_ns=lambda: self.now,
            cpu_ns=lambda: self.cpu,
            memory=lambda folder, requests, *, threads, batch, target: Memory(42.0, 30.0),
            pace=Pace(lambda: self.looks.pop(0) if self.looks else 100),
        )


@dataclass
class FakePredictor:
    machine: FakeMachine
    name: str
    milliseconds: float

    def encode(self, requests: Sequence[Request]) -> Any:
        self.machine.now += 100_000 * len(requests)

    def answer(self, requests: Sequence[Request], batch_size: int = 32) -> Any:
        assert batch_size >= len(requests), "a call must not be split"
        spent = int(self.milliseconds * 1e6) * len(requests)
        self.machine.now += spent
        self.machine.cpu += 2 * spent
        self.machine.diary.append((self.name, tuple(r.text for r in requests)))
        self.machine.collecting.append(gc.isenabled())


def contender(folder: Path, name: str) -> Contender:
    (folder / name).mkdir()
    for file, size in ((ONNX, 1000), (TOKENIZER, 200), (SPEC, 30)):
        (folder / name / file).write_bytes(b"x" * size)
    return Contender(name, folder / name)


@pytest.fixture
def two(tmp_path: Path) -> list[Contender]:
    return [contender(tmp_path, "teacher"), contender(tmp_path, "shipped")]


def test_figures_are_exact_for_a_known_clock(two: list[Contender]) -> None:
    bench = Bench(scenarios=["single-stream"], requests=50, rounds=5)
    teacher, shipped = run_bench(
        two, REQUESTS, bench, instruments=FakeMachine().instruments({"teacher": 8, "shipped": 0.5})
    )
    assert (teacher.artifact, shipped.artifact) == ("teacher", "shipped")
    assert teacher.p50_ms == teacher.p99_ms == teacher.p50_low == teacher.p50_high == pytest.approx(8)
    assert shipped.p50_ms == pytest.approx(0.5)
    assert teacher.qps == pytest.approx(125)
    assert teacher.cpu_ms == pytest.approx(16)
    assert teacher.tokenizer_ms == pytest.approx(0.1)
    assert (teacher.requests, teacher.rounds, teacher.batch) == (50, 5, 1)
    assert (teacher.peak_mb, teacher.size_bytes, teacher.status) == (42.0, 1230, "ok")


def test_contenders_take_turns_on_the_same_requests(two: list[Contender]) -> None:
    machine = FakeMachine()
    bench = Bench(scenarios=["single-stream"], requests=20, rounds=4)
    run_bench(two, REQUESTS, bench, instruments=machine.instruments({"teacher": 1, "shipped": 1}))
    diary = machine.diary[2 * WARM_CALLS :]
    turn = TURN_CALLS["single-stream"] + 5
    blocks = [diary[i : i + turn] for i in range(0, len(diary), turn)]
    assert [{name for name, _ in block} for block in blocks] == [
        {name} for name in ("teacher", "shipped", "shipped", "teacher") * 2
    ]
    for number in range(4):
        first, second = ([texts for _, texts in block] for block in blocks[2 * number : 2 * number + 2])
        assert first == second
        assert first[TURN_CALLS["single-stream"] :] == [(f"text {number * 5 + i}",) for i in range(5)]


def test_one_may_read_more_in_the_same_requests(two: list[Contender]) -> None:
    """A teacher with privileged columns: the same rows in the same order, each with its longer text."""
    machine = FakeMachine()
    longer = replace(two[0], requests=[Request(f"{request.text} and more") for request in REQUESTS])
    bench = Bench(scenarios=["single-stream"], requests=20, rounds=2)
    run_bench([longer, two[1]], REQUESTS, bench, instruments=machine.instruments({"teacher": 1, "shipped": 1}))
    read = {name: [texts for who, texts in machine.diary if who == name] for name in ("teacher", "shipped")}
    assert len(read["teacher"]) == len(read["shipped"]) > 20
    assert read["teacher"] == [(f"{text} and more",) for (text,) in read["shipped"]]


def test_offline_answers_full_batches_and_counts_requests(two: list[Contender]) -> None:
    machine = FakeMachine()
    bench = Bench(scenarios=["offline"], requests=60, rounds=3, batch_size=16)
    result = run_bench(two, REQUESTS, bench, instruments=machine.instruments({"teacher": 2, "shipped": 1}))[0]
    assert {len(texts) for _, texts in machine.diary} == {16}
    assert (result.requests, result.batch) == (96, 16)
    assert result.p50_ms == pytest.approx(32)
    assert result.qps == pytest.approx(500)
    assert result.cpu_ms == pytest.approx(4)


def test_a_slow_contender_shortens_the_work_of_all_alike(two: list[Contender]) -> None:
    bench = Bench(scenarios=["single-stream"], requests=1000, rounds=5)
    machine = FakeMachine()
    slow, fast = run_bench(
        two, REQUESTS, bench, instruments=machine.instruments({"teacher": 200, "shipped": 0.1}), budget_seconds=20
    )
    assert slow.requests == fast.requests < 100
    assert slow.rounds == fast.rounds == 5
    assert machine.now < 26e9


def test_a_contender_slower_than_the_budget_still_gets_a_round(two: list[Contender]) -> None:
    bench = Bench(scenarios=["single-stream"], requests=1000, rounds=5)
    slow, fast = run_bench(
        two,
        REQUESTS,
        bench,
        instruments=FakeMachine().instruments({"teacher": 30_000, "shipped": 1}),
        budget_seconds=20,
    )
    assert (slow.requests, slow.rounds) == (fast.requests, fast.rounds) == (1, 1)


def test_results_cover_threads_and_scenarios_in_order(two: list[Contender]) -> None:
    bench = Bench(threads=[1, 2], requests=10, rounds=1, batch_size=2)
    results = run_bench(two, REQUESTS, bench, instruments=FakeMachine().instruments({"teacher": 1, "shipped": 1}))
    assert [(r.threads, r.scenario, r.artifact) for r in results] == [
        (threads, scenario, name)
        for threads in (1, 2)
        for scenario in ("single-stream", "offline")
        for name in ("teacher", "shipped")
    ]


def test_without_a_model_file_the_result_says_not_run(two: list[Contender], tmp_path: Path) -> None:
    (tmp_path / "scores").mkdir()
    bench = Bench(scenarios=["single-stream"], requests=10, rounds=1)
    results = run_bench(
        [Contender("scores", tmp_path / "scores"), *two],
        REQUESTS,
        bench,
        instruments=FakeMachine().instruments({"teacher": 1, "shipped": 1}),
    )
    assert [r.artifact for r in results] == ["scores", "teacher", "shipped"]
    assert results[0].status == "not run: scores has no model.onnx"
    assert results[0].p50_ms is None
    assert results[1].status == "ok"


def test_garbage_collection_rests_while_timing_and_returns(two: list[Contender]) -> None:
    machine = FakeMachine()
    bench = Bench(scenarios=["single-stream"], requests=10, rounds=1)
    assert gc.isenabled()
    run_bench(two, REQUESTS, bench, instruments=machine.instruments({"teacher": 1, "shipped": 1}))
    assert gc.isenabled()
    assert not any(machine.collecting)


def test_no_requests_are_refused(two: list[Contender]) -> None:
    with pytest.raises(ValueError, match="0 requests"):
        run_bench(two, [], Bench())


def test_percentiles_are_over_all_rounds_and_p99_was_observed() -> None:
    rounds = [[1_000_000] * 50, [2_000_000] * 49 + [90_000_000]]
    figures = summarise(rounds)
    assert figures["p50_ms"] == pytest.approx(1.5)
    assert figures["p90_ms"] == pytest.approx(2)
    assert figures["p99_ms"] == pytest.approx(90)
    assert (figures["p50_low"], figures["p50_high"]) == (1.0, 2.0)
    generator = np.random.default_rng(0)
    calls = generator.integers(1, 10**7, 101).tolist()
    assert summarise([calls])["p99_ms"] * 1e6 == pytest.approx(sorted(calls)[99])


def test_a_round_in_which_the_processor_was_slow_is_taken_again(two: list[Contender]) -> None:
    """Three looks a round with two contenders; in the second round one is slow, and the latencies with it."""
    machine = FakeMachine(looks=[100, 100, 100, 100, 100, 180])
    bench = Bench(scenarios=["single-stream"], requests=20, rounds=4)
    teacher, shipped = run_bench(two, REQUESTS, bench, instruments=machine.instruments({"teacher": 1, "shipped": 1}))
    for row in (teacher, shipped):
        assert (row.rounds, row.requests, row.repeated_rounds, row.disturbed_rounds) == (4, 20, 1, 0)
    turn = TURN_CALLS["single-stream"] + 5
    blocks = [machine.diary[2 * WARM_CALLS :][i : i + turn] for i in range(0, 10 * turn, turn)]
    assert blocks[8:] == blocks[2:4], "the same requests in the same order"
    assert len(machine.diary) == 2 * WARM_CALLS + 10 * turn


def test_a_processor_that_stays_slow_is_told(two: list[Contender], capsys: pytest.CaptureFixture[str]) -> None:
    machine = FakeMachine(looks=[100, *[150] * 200])
    bench = Bench(scenarios=["single-stream"], requests=20, rounds=4)
    row, _ = run_bench(two, REQUESTS, bench, instruments=machine.instruments({"teacher": 1, "shipped": 1}))
    assert (row.rounds, row.repeated_rounds, row.disturbed_rounds) == (4, 4, 4)
    assert "in 4 of 4 rounds the processor was more than 15% slower" in " ".join(capsys.readouterr().err.split())


def test_a_look_does_the_same_work_each_time() -> None:
    ticks = iter(range(1000))
    assert work_ns(lambda: next(ticks)) == 1
    assert work_ns() > 10_000
