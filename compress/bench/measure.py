"""Latency and throughput, end to end from text, with the contenders taking turns on the same requests.

The scenarios are MLPerf's (Reddi et al., https://arxiv.org/abs/1911.02549). In single-stream and offline the loop here
asks, in all others, and where it is wanted, LoadGen.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.bench import energy, loadgen
from compress.bench.affinity import affinity_text, check_affinity
from compress.bench.lanes import (
    Answering,
    Contender,
    Instruments,
    Lane,
    ask_by_loadgen,
    footprint,
    lanes_of,
    memory_of,
)
from compress.bench.memory import Memory
from compress.bench.pace import pace_notes
from compress.bench.processes import Alone, Asked, Asker, Calls, open_asker
from compress.bench.results import BenchResult, Scenario
from compress.bench.statistics import figures
from compress.bench.turns import Times, Turn
from compress.errors import DataError
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
    check_affinity(bench.affinity)
    tools = instruments or Instruments()
    lanes = lanes_of(contenders, bench)
    for threads in bench.threads:
        with _opened(lanes, threads, bench, tools) as (askers, refused):
            for scenario in bench.scenarios:
                timed = _Scenario(scenario, threads, bench, requests, tools, budget_seconds)
                found = timed.run(askers)
                if timed.stopped is not None:
                    yield list(found.values())
                    raise timed.stopped
                yield [found.get(lane) or lane.not_run(refused[lane], scenario, threads, bench) for lane in lanes]


@contextmanager
def _opened(
    lanes: Sequence[Lane], threads: int, bench: Bench, tools: Instruments
) -> Iterator[tuple[dict[Lane, Asker], dict[Lane, str]]]:
    """What can be timed, ready to be asked until the block ends, and why the rest cannot."""
    askers: dict[Lane, Asker] = {}
    refused: dict[Lane, str] = {}
    with ExitStack() as started:
        for lane in lanes:
            try:
                askers[lane] = open_asker(lane, threads, bench, tools)
                started.callback(askers[lane].close)
            except DataError as error:
                refused[lane] = str(error)
        yield askers, refused


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
        self.looks: dict[int, int] = {}
        self.repeated = 0

    def run(self, askers: dict[Lane, Asker]) -> dict[Lane, BenchResult]:
        """Warm up, plan, take turns, sum up."""
        if not askers:
            return {}
        with no_garbage_collection():
            slowest = max(self._warm_up(lane, asker) for lane, asker in askers.items())
            calls = self._calls_per_round(slowest)
            # A live bar redraws from its own thread, which would land in the latencies: one line must do.
            reporter.say(
                f"  bench {self.scenario}: {', '.join(c.name for c in askers)}, {self.bench.rounds} rounds "
                f"of {calls * self.batch} requests, {self._workers()}, "
                f"about {calls * self.bench.rounds * max(slowest, self.pause_ns) / 1e9:,.0f} s for the slowest"
            )
            times = {lane: Times() for lane in askers}
            try:
                self._take_turns(askers, calls, times)
            except KeyboardInterrupt as stop:
                self.stopped = stop
        for note in pace_notes(len(self.disturbed), len(self.looks)):
            reporter.warn(note)
        return {lane: self._result(lane, taken) for lane, taken in times.items() if taken.turns}

    def _workers(self) -> str:
        each = f"{self.threads} thread(s)"
        return each if self.bench.processes == 1 else f"{self.bench.processes} processes of {each}"

    def _calls(self, lane: Lane, first: int, count: int) -> list[Calls]:
        """The calls of each process: the same requests round and round, from another one on in each process."""
        asked = lane.asked(self.requests)
        shift = len(asked) / self.bench.processes

        def call(number: int, start: int) -> Sequence[Request]:
            return [asked[(start + number * self.batch + i) % len(asked)] for i in range(self.batch)]

        starts = [int(shift * process) for process in range(self.bench.processes)]
        return [[call(number, start) for number in range(first, first + count)] for start in starts]

    def _warm_up(self, lane: Lane, asker: Asker) -> float:
        """Call until the median settles; returns the last median in nanoseconds."""
        took: list[int] = []
        while sum(took) < WARM_SECONDS * 1e9:
            asker.prepare(self._calls(lane, len(took), 1), 0)
            took.append(max(asker.ask().calls))
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

    def _take_turns(self, askers: dict[Lane, Asker], calls: int, times: dict[Lane, Times]) -> None:
        """All rounds; then those again in which the processor was slow, as often as there are rounds at the most."""
        for number in range(self.bench.rounds):
            self.looks[number] = self._round(number, askers, calls, times)
            if max(t.spent for t in times.values()) >= self.budget_seconds * 1e9:
                break
        while self.disturbed and self.repeated < len(self.looks):
            number = self.disturbed[self.repeated % len(self.disturbed)]
            self.repeated += 1
            self.looks[number] = self._round(number, askers, calls, times)

    @property
    def disturbed(self) -> list[int]:
        """Rounds before, between or after whose turns the processor was slower than it can be."""
        return [number for number, look in self.looks.items() if self.tools.pace.slow(look)]

    def _round(self, number: int, askers: dict[Lane, Asker], calls: int, times: dict[Lane, Times]) -> int:
        """A turn of each; returns the slowest look at the processor before, between and after the turns."""
        # Whoever comes first changes, so that no contender always follows the same one.
        order = list(askers)
        turn = number % len(order)
        looks = [self.tools.pace.look()]
        for lane in order[turn:] + order[:turn]:
            taken = self._turn(lane, askers[lane], self._calls(lane, number * calls, calls), number)
            times[lane].turns[number] = taken
            looks.append(self.tools.pace.look())
        return max(looks)

    def _turn(self, lane: Lane, asker: Asker, calls: Sequence[Calls], number: int) -> Turn:
        began = self.tools.clock_ns()
        asker.prepare(calls, self.turn_calls)
        energy_before = self.tools.energy_uj()
        if self.by_loadgen and isinstance(asker, Alone):
            asked = self._ask_by_loadgen(asker.model, lane.asked(self.requests), len(calls[0]), number)
        else:
            asked = asker.ask()
        energy_after = self.tools.energy_uj()
        return Turn(
            calls=asked.calls,
            cpu=asked.cpu,
            answering=asked.span,
            energy=energy.spent_uj(energy_before, energy_after) if energy_before and energy_after else None,
            tokenizer=asker.encode(),
            spent=self.tools.clock_ns() - began,
        )

    def _ask_by_loadgen(self, runner: Answering, asked: Sequence[Request], calls: int, number: int) -> Asked:
        """One run of LoadGen, with the same arrivals and requests for whoever has this turn in this round."""
        load = loadgen.Load(
            self.scenario,
            queries=calls * self.batch if self.scenario == "offline" else calls,
            library=len(asked),
            batch=self.batch,
            qps=self.qps,
            seed=number,
        )
        found, cpu = ask_by_loadgen(runner, asked, load, self.tools.cpu_ns)
        return Asked(found.latencies_ns, cpu, found.span_ns)

    def _answered(self, times: Times) -> int:
        """Requests: a latency is that of a call, but for LoadGen's offline, where each request has one."""
        each = 1 if self.by_loadgen and self.scenario == "offline" else self.batch
        return sum(len(calls) for calls in times.rounds) * each

    def _result(self, lane: Lane, times: Times) -> BenchResult:
        answered = self._answered(times)
        taken = self._memory(lane)
        return BenchResult(
            artifact=lane.name,
            target=lane.target,
            scenario=self.scenario,
            threads=self.threads,
            processes=self.bench.processes,
            affinity=affinity_text(self.bench.affinity),
            batch=self.batch,
            load=loadgen.load_name() if self.by_loadgen else None,
            offered_qps=self.qps,
            requests=answered,
            rounds=len(times.turns),
            repeated_rounds=self.repeated,
            disturbed_rounds=len(self.disturbed),
            **summarise(times.rounds),
            qps=answered / (max(times.answering, 1) / 1e9),
            cpu_ms=times.cpu / answered / 1e6,
            energy_mj=None if times.energy is None else times.energy / answered / 1e3,
            tokenizer_ms=float(np.median(times.tokenizer)) / 1e6,
            **footprint(lane, taken),
            partial=True if self.stopped else None,
        )

    def _memory(self, lane: Lane) -> Memory | None:
        if self.stopped:
            return None
        try:
            return memory_of(lane, self.requests, self.tools, threads=self.threads, batch=self.batch)
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
