"""The search for the highest rate, on queues whose answer is known, and through LoadGen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.bench import search
from compress.bench.lanes import Contender, Instruments, Lane
from compress.bench.loadgen import Driven
from compress.bench.memory import Memory
from compress.bench.pace import Pace
from compress.bench.search import FINE, Probe, RateSearch, highest, search_cells
from compress.bench.statistics import Verdict
from compress.errors import DataError
from compress.recipe import Bench
from compress.runtime.predictor import Request
from tests.bench.test_measure import contender


def probing(limit: float, tried: list[float]) -> Any:
    """Rates up to a limit hold."""

    def probe(rate: float) -> Probe:
        tried.append(rate)
        verdict: Verdict = "held" if rate <= limit else "missed"
        return Probe(rate, Driven([0], [0], {}), 0, verdict)

    return probe


@pytest.mark.parametrize("limit", [6, 33, 69.9, 85, 99, 130])
def test_the_highest_rate_is_found_to_five_percent(limit: float) -> None:
    tried: list[float] = []
    found = highest(probing(limit, tried), 100)
    assert found is not None
    assert found.rate is not None
    assert limit / FINE <= found.rate <= limit
    assert len(tried) < 12


def test_no_rate_at_all() -> None:
    tried: list[float] = []
    assert highest(probing(2, tried), 100) is None
    assert min(tried) >= 5


class Queue:
    """LoadGen's server with a model of a constant service time, by arithmetic (Lindley's recursion)."""

    def __init__(self, service_ms: float) -> None:
        self.service = service_ms * 1e6

    def drive(self, load: Any, answer: Any) -> Driven:
        for number in range(load.queries):
            answer([number % load.library])
        if load.qps is None:
            arrivals = np.arange(load.queries) * self.service
            return Driven(arrivals.astype(int).tolist(), [int(self.service)] * load.queries, {})
        gaps = np.random.default_rng(load.seed).exponential(1e9 / load.qps, load.queries)
        arrivals, free, latencies = np.cumsum(gaps) - gaps[0], 0.0, []
        for arrival in arrivals:
            free = max(free, arrival) + self.service
            latencies.append(int(free - arrival))
        return Driven(arrivals.astype(int).tolist(), latencies, {})


class Silent:
    def encode(self, requests: Sequence[Request]) -> None: ...

    def answer(self, requests: Sequence[Request], batch_size: int = 32) -> None: ...


def instruments(open_: Any = lambda folder, threads, target: Silent(), look: Any = lambda: 100) -> Instruments:
    return Instruments(open=open_, memory=lambda *_, **__: Memory(42.0, 30.0), pace=Pace(look))


def searching(tmp_path: Path, bound_ms: float, tools: Instruments | None = None) -> RateSearch:
    asked = [Request("a"), Request("b")]
    return RateSearch(Lane(contender(tmp_path, "model")), Silent(), asked, bound_ms, tools=tools or instruments())


def test_the_rate_of_a_queue_is_that_of_queueing_theory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """M/D/1 with 1 ms: p99 is 4.2 ms at a load of 0.7, and 7.3 ms at 0.8."""
    monkeypatch.setattr(search.loadgen, "drive", Queue(1).drive)
    row = searching(tmp_path, 5).find()
    assert row.status == "ok"
    assert row.offered_qps is not None
    assert row.p99_ms is not None
    assert row.p99_early_stopping_ms is None or row.p99_early_stopping_ms <= 5
    assert 500 < row.offered_qps < 800
    assert (row.p99_bound_ms, row.scenario) == (5, "server")
    assert row.p99_ms <= 5
    assert row.tried_rates is not None
    held = [each for each in row.tried_rates if each.verdict == "held"]
    assert max(each.offered_qps for each in held) == row.offered_qps
    assert all((each.p99_ms <= 5) == (each.verdict == "held") for each in row.tried_rates if each.requests < 4000)
    assert row.p99_ms in {each.p99_ms for each in held if each.offered_qps == row.offered_qps}
    assert (row.peak_mb, row.mapped_mb, row.model_bytes, row.size_bytes) == (42.0, 30.0, 1000, 1230)
    assert (row.repeated_rounds, row.disturbed_rounds) == (0, 0)


def test_a_run_beside_which_the_processor_was_slow_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first one after the search for the capacity; and all of them, which is told."""
    monkeypatch.setattr(search.loadgen, "drive", Queue(1).drive)
    looks = iter([100, 100, 100, 150])
    calm = searching(tmp_path, 5, instruments(look=lambda: next(looks, 100))).find()
    assert (calm.repeated_rounds, calm.disturbed_rounds) == (1, 0)
    assert calm.tried_rates is not None
    assert not any(each.disturbed for each in calm.tried_rates)
    (tmp_path / "busy").mkdir()
    looks = iter([100])
    busy = searching(tmp_path / "busy", 5, instruments(look=lambda: next(looks, 150))).find()
    assert busy.disturbed_rounds == 1
    assert busy.offered_qps == calm.offered_qps
    assert busy.tried_rates is not None
    assert all(each.disturbed for each in busy.tried_rates)
    assert "the processor was more than 15% slower" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("rates", [0, 1])
def test_ctrl_c_keeps_the_rates_that_were_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rates: int) -> None:
    """M/D/1 with 1 ms: the first rate, 0.7 of the capacity, holds 10 ms."""
    drive, asked = Queue(1).drive, set[float | None]()

    def interrupted(load: Any, answer: Any) -> Driven:
        asked.add(load.qps)
        if len(asked) > 1 + rates:
            raise KeyboardInterrupt
        return drive(load, answer)

    monkeypatch.setattr(search.loadgen, "drive", interrupted)
    cells = search_cells([contender(tmp_path, "model")], [Request("a")], Bench(), 10, instruments=instruments())
    (row,) = next(cells)
    assert (row.partial, row.status, row.peak_mb) == (True, "ok", None)
    assert len(row.tried_rates or ()) == rates
    assert row.offered_qps == (700 if rates else None)
    with pytest.raises(KeyboardInterrupt):
        next(cells)


def test_ctrl_c_before_anything_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(load: Any, answer: Any) -> Driven:
        raise KeyboardInterrupt

    monkeypatch.setattr(search.loadgen, "drive", interrupted)
    cells = search_cells([contender(tmp_path, "model")], [Request("a")], Bench(), 5, instruments=instruments())
    with pytest.raises(KeyboardInterrupt):
        next(cells)


def test_a_loose_bound_does_not_hide_a_queue_that_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.loadgen, "drive", Queue(1).drive)
    row = searching(tmp_path, 10_000).find()
    assert row.offered_qps is not None
    assert row.offered_qps < 1100


def test_a_bound_below_the_service_time_tells_the_lowest_latency(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search.loadgen, "drive", Queue(2).drive)
    row = searching(tmp_path, 1.5).find()
    assert row.offered_qps is None
    assert row.status == "no rate: p99 is within 1.5 ms at none; the lowest p99 seen is 2 ms"
    assert row.p99_ms == 2


def test_through_loadgen(tmp_path: Path) -> None:
    answered = []

    class Sleeper(Silent):
        def answer(self, requests: Sequence[Request], batch_size: int = 32) -> None:
            answered.append(len(requests))
            time.sleep(0.0005)

    lane = Lane(contender(tmp_path, "model"))
    row = RateSearch(lane, Sleeper(), [Request("a")], 0.01, tools=instruments()).find()
    assert row.status.startswith("no rate")
    assert row.p99_ms is not None
    assert row.p99_ms > 0.5
    assert len(answered) == 501


def test_a_row_for_each_contender_target_and_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a target does not run is a row, too; what is wrong with the requests ends the search."""
    monkeypatch.setattr(search.loadgen, "drive", Queue(1).drive)
    bench = Bench(targets=("onnxruntime-cpu", "torch-cpu"), threads=(1, 2))
    contenders = [contender(tmp_path, "model"), Contender("bare", tmp_path / "bare")]
    cells = list(search_cells(contenders, [Request("a")], bench, 5, instruments=instruments()))
    rows = [row for (row,) in cells]
    assert [(row.threads, row.target, row.artifact) for row in rows] == [
        (threads, target, name)
        for threads in (1, 2)
        for target in ("onnxruntime-cpu", "torch-cpu")
        for name in ("model", "bare")
    ]
    assert [row.status == "ok" for row in rows] == [True, False, False, False] * 2
    assert rows[1].status == "not run: bare has no model.onnx"
    assert rows[2].status.startswith("not run: torch-cpu runs trained weights")
    assert {(row.scenario, row.batch) for row in rows} == {("server", 1)}

    class Picky(Silent):
        def answer(self, requests: Sequence[Request], batch_size: int = 32) -> None:
            raise DataError("request 1 has an empty text")

    picky = instruments(lambda folder, threads, target: Picky())
    with pytest.raises(DataError, match="empty text"):
        list(search_cells(contenders[:1], [Request("a")], Bench(), 5, instruments=picky))
