"""Latency and throughput, end to end from text, with the contenders taking turns on the same requests.

The scenarios are MLPerf's single-stream and offline (Reddi et al., https://arxiv.org/abs/1911.02549).
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from compress.bench import memory
from compress.bench.results import BenchResult, Scenario
from compress.bench.targets import ONNXRUNTIME, deployed_bytes, open_model, why_not
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
TURN_CALLS: dict[Scenario, int] = {"single-stream": 3, "offline": 1}
"""Untimed calls at the start of a turn, which bring back the caches that the contender before pushed out."""


class Answering(Protocol):
    """What is timed: the part of compress.runtime.predictor.Predictor that the bench needs."""

    def encode(self, requests: Sequence[Request]) -> Any:
        """Text to the model's inputs."""
        ...

    def answer(self, requests: Sequence[Request], batch_size: int = 32) -> Any:
        """Text to answers."""
        ...


@dataclass(frozen=True)
class Contender:
    """A name, and the deployable folder behind it.

    requests: what it is asked in place of the requests of all: the same ones in their order, with more text in them.
    targets: what it is timed on, of the bench's; None for all.
    """

    name: str
    folder: Path
    requests: Sequence[Request] | None = field(default=None, compare=False)
    targets: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Lane:
    """A contender on one target."""

    contender: Contender
    target: str = ONNXRUNTIME

    @property
    def name(self) -> str:
        """The contender's."""
        return self.contender.name

    @property
    def folder(self) -> Path:
        """The contender's."""
        return self.contender.folder


@dataclass(frozen=True)
class Instruments:
    """What measuring needs from the outside; tests put their own in."""

    open: Callable[[Path, int, str], Answering] = open_model
    clock_ns: Callable[[], int] = time.perf_counter_ns
    cpu_ns: Callable[[], int] = time.process_time_ns
    peak_mb: Callable[..., float] = memory.peak_mb


@dataclass
class _Times:
    """Raw nanoseconds of one contender."""

    rounds: list[list[int]] = field(default_factory=list)
    tokenizer: list[int] = field(default_factory=list)
    cpu: int = 0
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
    if not requests:
        raise ValueError("run_bench was given 0 requests; it needs at least 1")
    tools = instruments or Instruments()
    lanes = [Lane(c, t) for t in bench.targets for c in contenders if c.targets is None or t in c.targets]
    results: list[BenchResult] = []
    for threads in bench.threads:
        runners, refused = _open_all(lanes, threads, tools)
        for scenario in bench.scenarios:
            timed = _Scenario(scenario, threads, bench, requests, tools, budget_seconds).run(runners)
            results += [timed.get(lane) or _absent(lane, refused[lane], scenario, threads, bench) for lane in lanes]
    return results


def _open_all(lanes: Sequence[Lane], threads: int, tools: Instruments) -> tuple[dict[Lane, Answering], dict[Lane, str]]:
    """What can be timed, and why the rest cannot."""
    runners: dict[Lane, Answering] = {}
    refused: dict[Lane, str] = {}
    for lane in lanes:
        reason = why_not(lane.folder, lane.target)
        if reason is None:
            try:
                runners[lane] = tools.open(lane.folder, threads, lane.target)
                continue
            except DataError as error:  # an operator that OpenVINO does not read, for example
                reason = str(error)
        refused[lane] = reason
    return runners, refused


def summarise(rounds: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Percentiles over all rounds and spread of the rounds' medians, in milliseconds, of nanoseconds."""
    calls = np.concatenate([np.asarray(times, np.float64) for times in rounds]) / 1e6
    medians = [float(np.median(times)) / 1e6 for times in rounds]
    return {
        "p50_ms": float(np.percentile(calls, 50)),
        "p90_ms": float(np.percentile(calls, 90)),
        # Interpolating between the two slowest calls would report a latency that nobody saw.
        "p99_ms": float(np.percentile(calls, 99, method="higher")),
        "p50_low": min(medians),
        "p50_high": max(medians),
    }


def _absent(lane: Lane, reason: str, scenario: Scenario, threads: int, bench: Bench) -> BenchResult:
    batch = bench.batch_size if scenario == "offline" else 1
    return BenchResult.not_run(lane.name, scenario, threads=threads, batch=batch, reason=reason, target=lane.target)


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
        self.batch = self.bench.batch_size if self.scenario == "offline" else 1
        self.turn_calls = TURN_CALLS[self.scenario]

    def run(self, runners: dict[Lane, Answering]) -> dict[Lane, BenchResult]:
        """Warm up, plan, take turns, sum up."""
        if not runners:
            return {}
        with _no_garbage_collection():
            slowest = max(self._warm_up(lane, runner) for lane, runner in runners.items())
            calls = self._calls_per_round(slowest)
            # A live bar redraws from its own thread, which would land in the latencies: one line must do.
            reporter.say(
                f"  bench {self.scenario}: {', '.join(c.name for c in runners)}, {self.bench.rounds} rounds "
                f"of {calls * self.batch} requests, {self.threads} thread(s), "
                f"about {calls * self.bench.rounds * slowest / 1e9:,.0f} s for the slowest"
            )
            times = self._take_turns(runners, calls)
        return {lane: self._result(lane, times[lane]) for lane in runners}

    def _asked(self, lane: Lane) -> Sequence[Request]:
        return self.requests if lane.contender.requests is None else lane.contender.requests

    def _call(self, lane: Lane, number: int) -> Sequence[Request]:
        """The requests of one call, round and round through all of them."""
        asked = self._asked(lane)
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
        within = int(self.budget_seconds * 1e9 / self.bench.rounds / max(slowest_ns, 1.0)) - self.turn_calls
        return max(1, min(asked, within))

    def _take_turns(self, runners: dict[Lane, Answering], calls: int) -> dict[Lane, _Times]:
        times = {lane: _Times() for lane in runners}
        order = list(runners)
        for number in range(self.bench.rounds):
            # Whoever comes first changes, so that no contender always follows the same one.
            turn = number % len(order)
            for lane in order[turn:] + order[:turn]:
                batches = [self._call(lane, number * calls + i) for i in range(calls)]
                self._turn(runners[lane], batches, times[lane])
            if max(t.spent for t in times.values()) >= self.budget_seconds * 1e9:
                break
        return times

    def _turn(self, runner: Answering, batches: Sequence[Sequence[Request]], times: _Times) -> None:
        began = self.tools.clock_ns()
        for number in range(self.turn_calls):
            runner.answer(batches[number % len(batches)], batch_size=self.batch)
        cpu = self.tools.cpu_ns()
        times.rounds.append([self._time(runner, batch) for batch in batches])
        times.cpu += self.tools.cpu_ns() - cpu
        for batch in batches:
            start = self.tools.clock_ns()
            runner.encode(batch)
            times.tokenizer.append(self.tools.clock_ns() - start)
        times.spent += self.tools.clock_ns() - began

    def _result(self, lane: Lane, times: _Times) -> BenchResult:
        answered = sum(len(calls) for calls in times.rounds) * self.batch
        total = sum(sum(calls) for calls in times.rounds)
        try:
            asked = self._asked(lane)
            peak = self.tools.peak_mb(lane.folder, asked, threads=self.threads, batch=self.batch, target=lane.target)
        except EnvironmentProblem as error:
            reporter.warn(f"peak memory of {lane.name}: not measured: {error}")
            peak = None
        return BenchResult(
            artifact=lane.name,
            target=lane.target,
            scenario=self.scenario,
            threads=self.threads,
            batch=self.batch,
            requests=answered,
            rounds=len(times.rounds),
            **summarise(times.rounds),
            qps=answered / (max(total, 1) / 1e9),
            cpu_ms=times.cpu / answered / 1e6,
            tokenizer_ms=float(np.median(times.tokenizer)) / 1e6,
            peak_mb=peak,
            size_bytes=deployed_bytes(lane.folder),
        )


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect now, then not until the block ends: a pause would land in somebody's p99."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
