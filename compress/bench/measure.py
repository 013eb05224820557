"""Latency and throughput, end to end from text, with the contenders taking turns on the same requests.

The scenarios are MLPerf's (Reddi et al., https://arxiv.org/abs/1911.02549). In single-stream and offline the loop here
asks, in all others, and where it is wanted, LoadGen.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.bench import energy, loadgen
from compress.bench.lanes import Answering, Contender, Instruments, Lane, ask_by_loadgen, lanes_of, open_lane
from compress.bench.results import BenchResult, Scenario
from compress.bench.statistics import figures
from compress.bench.targets import deployed_bytes
from compress.errors import DataError, EnvironmentProblem
from compress.progress import reporter

if TYPE_CHECKING:
    from compress.recipe import Bench
    from compress.runtime.predictor import Request

BUDGET_SECONDS = 20.0
"""Seconds for a contender in a scenario; when the slowest needs more, all are timed on fewer requests."""
WARM_CALLS = 20
WARM_WINDOW = 10
WARM_TOLERANCE = 0.1
WARM_SECONDS = 3.0
TURN_CALLS: dict[Scenario, int] = {"single-stream": 3, "multi-stream": 1, "server": 3, "offline": 1}
"""Untimed calls at the start of a turn, which bring back the caches that the contender before pushed out."""


@dataclass
class _Times:
    """Raw nanoseconds of one contender."""

    rounds: list[list[int]] = field(default_factory=list)
    tokenizer: list[int] = field(default_factory=list)
    cpu: int = 0
    answering: int = 0
    energy: int | None = None
    spent: int = 0


def run_bench(
    contenders: Sequence[Contender],
    requests: Sequence[Request],
    bench: Bench,
    *,
    instruments: Instruments | None = None,
    budget_seconds: float = BUDGET_SECONDS,
) -> list[BenchResult]:
    """Time every contender in every scenario and with every thread count of `bench`.

    Results stand in the order threads, scenario, target, contender. Requests are repeated when there are fewer than
    `bench.requests`. A contender that a target does not run is answered with "not run" and why.

    Raises:
        ValueError: there are no requests.
    """
    cells = bench_cells(contenders, requests, bench, instruments=instruments, budget_seconds=budget_seconds)
    return [result for cell in cells for result in cell]


def bench_cells(
    contenders: Sequence[Contender],
    requests: Sequence[Request],
    bench: Bench,
    *,
    instruments: Instruments | None = None,
    budget_seconds: float = BUDGET_SECONDS,
) -> Iterator[list[BenchResult]]:
    """`run_bench` piece by piece: the results of all lanes for each of threads and scenarios, once they are there.

    After Ctrl-C the finished rounds of the scenario that was interrupted come as `partial` results, and then the
    KeyboardInterrupt is raised.
    """
    if not requests:
        raise ValueError("run_bench was given 0 requests; it needs at least 1")
    tools = instruments or Instruments()
    lanes = lanes_of(contenders, bench)
    for threads in bench.threads:
        runners, refused = _open_all(lanes, threads, tools)
        for scenario in bench.scenarios:
            timed = _Scenario(scenario, threads, bench, requests, tools, budget_seconds)
            found = timed.run(runners)
            if timed.stopped is not None:
                yield list(found.values())
                raise timed.stopped
            yield [found.get(lane) or lane.not_run(refused[lane], scenario, threads, bench) for lane in lanes]


def _open_all(lanes: Sequence[Lane], threads: int, tools: Instruments) -> tuple[dict[Lane, Answering], dict[Lane, str]]:
    """What can be timed, and why the rest cannot."""
    runners: dict[Lane, Answering] = {}
    refused: dict[Lane, str] = {}
    for lane in lanes:
        try:
            runners[lane] = open_lane(lane, threads, tools)
        except DataError as error:
            refused[lane] = str(error)
    return runners, refused


def summarise(rounds: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Percentiles over all rounds with their intervals, and spread of the rounds' medians, in ms, of nanoseconds."""
    medians = [float(np.median(times)) / 1e6 for times in rounds]
    return {**figures(np.concatenate(rounds)), "p50_low": min(medians), "p50_high": max(medians)}


@dataclass
class _Scenario:
    """One scenario with one thread count."""

    scenario: Scenario
    threads: int
    bench: Bench
    requests: Sequence[Request]
    tools: Instruments
    budget_seconds: float

    def __post_init__(self) -> None:
        self.batch = self.bench.batch(self.scenario)
        self.turn_calls = TURN_CALLS[self.scenario]
        self.by_loadgen = self.bench.loadgen or self.scenario in loadgen.ALWAYS
        self.qps = self.bench.qps if self.scenario == "server" else None
        self.pause_ns = 1e9 / self.qps if self.qps else 0.0
        self.stopped: KeyboardInterrupt | None = None

    def run(self, runners: dict[Lane, Answering]) -> dict[Lane, BenchResult]:
        """Warm up, plan, take turns, sum up."""
        if not runners:
            return {}
        with no_garbage_collection():
            slowest = max(self._warm_up(lane, runner) for lane, runner in runners.items())
            calls = self._calls_per_round(slowest)
            # A live bar redraws from its own thread, which would land in the latencies: one line must do.
            reporter.say(
                f"  bench {self.scenario}: {', '.join(c.name for c in runners)}, {self.bench.rounds} rounds "
                f"of {calls * self.batch} requests, {self.threads} thread(s), "
                f"about {calls * self.bench.rounds * max(slowest, self.pause_ns) / 1e9:,.0f} s for the slowest"
            )
            times = {lane: _Times() for lane in runners}
            try:
                self._take_turns(runners, calls, times)
            except KeyboardInterrupt as stop:
                self.stopped = stop
        return {lane: self._result(lane, taken) for lane, taken in times.items() if taken.rounds}

    def _call(self, lane: Lane, number: int) -> Sequence[Request]:
        """The requests of one call, round and round through all of them."""
        asked = lane.asked(self.requests)
        return [asked[(number * self.batch + i) % len(asked)] for i in range(self.batch)]

    def _time(self, runner: Answering, requests: Sequence[Request]) -> int:
        start = self.tools.clock_ns()
        runner.answer(requests, batch_size=self.batch)
        return self.tools.clock_ns() - start

    def _warm_up(self, lane: Lane, runner: Answering) -> float:
        """Call until the median settles; returns the last median in nanoseconds."""
        took: list[int] = []
        while sum(took) < WARM_SECONDS * 1e9:
            took.append(self._time(runner, self._call(lane, len(took))))
            if len(took) >= WARM_CALLS:
                last = float(np.median(took[-WARM_WINDOW:]))
                before = float(np.median(took[-2 * WARM_WINDOW : -WARM_WINDOW]))
                if abs(last - before) <= WARM_TOLERANCE * before:
                    break
        return float(np.median(took[-WARM_WINDOW:]))

    def _calls_per_round(self, slowest_ns: float) -> int:
        """Calls in a round: those asked for, or as many as the slowest finishes within the budget."""
        asked = math.ceil(self.bench.requests / (self.bench.rounds * self.batch))
        longest_ns = max(slowest_ns, self.pause_ns, 1.0)
        within = int(self.budget_seconds * 1e9 / self.bench.rounds / longest_ns) - self.turn_calls
        return max(1, min(asked, within))

    def _take_turns(self, runners: dict[Lane, Answering], calls: int, times: dict[Lane, _Times]) -> None:
        order = list(runners)
        for number in range(self.bench.rounds):
            # Whoever comes first changes, so that no contender always follows the same one.
            turn = number % len(order)
            for lane in order[turn:] + order[:turn]:
                batches = [self._call(lane, number * calls + i) for i in range(calls)]
                self._turn(lane, runners[lane], batches, times[lane])
            if max(t.spent for t in times.values()) >= self.budget_seconds * 1e9:
                break

    def _turn(self, lane: Lane, runner: Answering, batches: Sequence[Sequence[Request]], times: _Times) -> None:
        began = self.tools.clock_ns()
        for number in range(self.turn_calls):
            runner.answer(batches[number % len(batches)], batch_size=self.batch)
        energy_before = self.tools.energy_uj()
        if self.by_loadgen:
            self._ask_by_loadgen(runner, lane.asked(self.requests), len(batches), times)
        else:
            cpu = self.tools.cpu_ns()
            calls = [self._time(runner, batch) for batch in batches]
            times.cpu += self.tools.cpu_ns() - cpu
            times.rounds.append(calls)
            times.answering += sum(calls)
        energy_after = self.tools.energy_uj()
        if energy_before and energy_after:
            times.energy = (times.energy or 0) + energy.spent_uj(energy_before, energy_after)
        for batch in batches:
            start = self.tools.clock_ns()
            runner.encode(batch)
            times.tokenizer.append(self.tools.clock_ns() - start)
        times.spent += self.tools.clock_ns() - began

    def _ask_by_loadgen(self, runner: Answering, asked: Sequence[Request], calls: int, times: _Times) -> None:
        """One run of LoadGen, with the same arrivals and requests for whoever has this turn in this round."""
        load = loadgen.Load(
            self.scenario,
            queries=calls * self.batch if self.scenario == "offline" else calls,
            library=len(asked),
            batch=self.batch,
            qps=self.qps,
            seed=len(times.rounds),
        )
        found, cpu = ask_by_loadgen(runner, asked, load, self.tools.cpu_ns)
        times.rounds.append(found.latencies_ns)
        times.cpu += cpu
        times.answering += found.span_ns

    def _answered(self, times: _Times) -> int:
        """Requests: a latency is that of a call, but for LoadGen's offline, where each request has one."""
        each = 1 if self.by_loadgen and self.scenario == "offline" else self.batch
        return sum(len(calls) for calls in times.rounds) * each

    def _result(self, lane: Lane, times: _Times) -> BenchResult:
        answered = self._answered(times)
        return BenchResult(
            artifact=lane.name,
            target=lane.target,
            scenario=self.scenario,
            threads=self.threads,
            batch=self.batch,
            load=loadgen.load_name() if self.by_loadgen else None,
            offered_qps=self.qps,
            requests=answered,
            rounds=len(times.rounds),
            **summarise(times.rounds),
            qps=answered / (max(times.answering, 1) / 1e9),
            cpu_ms=times.cpu / answered / 1e6,
            energy_mj=None if times.energy is None else times.energy / answered / 1e3,
            tokenizer_ms=float(np.median(times.tokenizer)) / 1e6,
            peak_mb=self._peak_mb(lane),
            size_bytes=deployed_bytes(lane.folder),
            partial=True if self.stopped else None,
        )

    def _peak_mb(self, lane: Lane) -> float | None:
        if self.stopped:
            return None
        try:
            asked = lane.asked(self.requests)
            return self.tools.peak_mb(lane.folder, asked, threads=self.threads, batch=self.batch, target=lane.target)
        except EnvironmentProblem as error:
            reporter.warn(f"peak memory of {lane.name}: not measured: {error}")
        except KeyboardInterrupt as stop:
            self.stopped = stop
        return None


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect now, then not until the block ends: a pause would land in somebody's p99."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
