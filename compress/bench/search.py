"""The highest rate of requests at which p99 stays within a bound.

Rates are halved until one holds the bound, raised until one does not, and the bracket is bisected. Each rate is a
LoadGen server run that stops early: after as few queries as show, at 99% confidence, on which side of the bound p99 is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from compress.bench import loadgen
from compress.bench.lanes import (
    Answering,
    Contender,
    Instruments,
    Lane,
    ask_by_loadgen,
    footprint,
    lanes_of,
    memory_of,
    open_lane,
)
from compress.bench.measure import no_garbage_collection
from compress.bench.memory import Memory
from compress.bench.pace import pace_notes
from compress.bench.results import BenchResult, TriedRate
from compress.bench.statistics import Verdict, figures, judge
from compress.errors import DataError
from compress.progress import reporter
from compress.recipe import Bench
from compress.runtime.predictor import Request

QUERIES = (500, 1000, 2000, 4000)
"""Queries of a run; the next is begun where the one before showed nothing. 459 are the fewest that can hold a bound."""
WARM_QUERIES = 20
READ_ALONE = 100
"""Requests of which the tokenizer's share is measured."""
FIRST_LOAD = 0.7
"""Share of the capacity that the first rate is."""
LEAST_LOAD = 0.05
"""Below it hardly any query waits for another, so that lower rates are no faster."""
STEP = 1.25
FINE = 1.05
"""The search ends where the lowest rate that misses is at most this many times the highest that holds."""
BEHIND = 1.05
"""A run that lasts this many times as long as its arrivals has a queue that grows, however loose the bound."""


@dataclass(frozen=True)
class Probe:
    """One rate (requests a second; None: one after the other), and what LoadGen found.

    cpu_ns: of all queries. look: nanoseconds of the slower look at the processor before and after, see Pace.
    """

    rate: float | None
    found: loadgen.Driven
    cpu_ns: int
    verdict: Verdict
    look: int = 0

    @property
    def p99_ms(self) -> float:
        """Observed p99 in milliseconds."""
        return float(np.percentile(self.found.latencies_ns, 99, method="higher")) / 1e6

    @property
    def qps(self) -> float:
        """Requests a second from the first arrival to the last answer."""
        return len(self.found.latencies_ns) / self.found.span_ns * 1e9


def highest(probe: Callable[[float], Probe], capacity: float) -> Probe | None:
    """The highest rate, to 5%, that holds the bound; None where none above a twentieth of `capacity` does.

    Args:
        probe: tries a rate. capacity: requests a second without a pause between them.
    """
    rate, least, held, missed = FIRST_LOAD * capacity, LEAST_LOAD * capacity, None, float("inf")
    while True:
        tried = probe(rate)
        if tried.verdict == "held":
            held = tried
        else:
            missed = rate
        if held is None:
            if rate <= least:
                return None
            rate = max(rate / 2, least)
            continue
        best = held.rate or 0.0
        if missed <= FINE * best:
            return held
        rate = STEP * best if missed == float("inf") else float(np.sqrt(best * missed))


def search_cells(
    contenders: Sequence[Contender],
    requests: Sequence[Request],
    bench: Bench,
    bound_ms: float,
    *,
    instruments: Instruments | None = None,
) -> Iterator[list[BenchResult]]:
    """The row of each contender on each of its targets, once it is there; see RateSearch.

    After Ctrl-C the search that was interrupted comes as a `partial` row, and then the KeyboardInterrupt is raised.
    """
    tools = instruments or Instruments()
    for threads, lane in product(bench.threads, lanes_of(contenders, bench)):
        try:
            runner = open_lane(lane, threads, tools)
        except DataError as error:
            yield [lane.not_run(error, "server", threads, bench)]
            continue
        search = RateSearch(lane, runner, lane.asked(requests), bound_ms, threads, tools)
        yield [search.find()]
        if search.stopped is not None:
            raise search.stopped


@dataclass
class RateSearch:
    """The search for one contender on one target with one number of threads.

    probes: what was judged. repeated: runs that were taken again. stopped: what interrupted it.
    """

    lane: Lane
    runner: Answering
    requests: Sequence[Request]
    bound_ms: float
    threads: int = 1
    tools: Instruments = field(default_factory=Instruments)
    probes: list[Probe] = field(default_factory=list)
    repeated: int = 0
    stopped: KeyboardInterrupt | None = None

    def find(self) -> BenchResult:
        """The row of the highest rate that holds the bound.

        Where none does, `offered_qps` is None, `status` says so, and the figures are those of the lowest p99 that
        was seen. After Ctrl-C the row has what was found until then, and is `partial`.

        Raises:
            EnvironmentProblem: LoadGen is not installed.
            KeyboardInterrupt: before anything was found.
        """
        taken = None
        try:
            with no_garbage_collection():
                self.runner.answer([self.requests[0]] * WARM_QUERIES, batch_size=1)
                alone = self._probe(None)
                if alone.verdict != "missed":  # else no rate can hold what one request after the other does not
                    highest(self._probe, alone.qps)
            taken = memory_of(self.lane, self.requests, self.tools, threads=self.threads)
        except KeyboardInterrupt as stop:
            if not self.probes:
                raise
            self.stopped = stop
        return self._row(taken)

    def _probe(self, rate: float | None) -> Probe:
        for queries in QUERIES:
            probe = self._run(rate, queries)
            if self.tools.pace.slow(probe.look):
                self.repeated += 1
                probe = self._run(rate, queries)
            if probe.verdict != "open":
                break
        self.probes.append(probe)
        at = "one after the other" if rate is None else f"{rate:,.1f} requests/s"
        said = {"held": "within", "missed": "not within", "open": "not shown to be within"}[probe.verdict]
        slow = ", with a slow processor" if self.tools.pace.slow(probe.look) else ""
        reporter.say(
            f"  {self.lane.name} ({self.lane.target}), {at}: p99 {probe.p99_ms:.3g} ms over {queries:,} queries, "
            f"{said} {self.bound_ms:g} ms{slow}"
        )
        return probe

    def _run(self, rate: float | None, queries: int) -> Probe:
        load = loadgen.Load("single-stream" if rate is None else "server", queries, len(self.requests), qps=rate)
        look = self.tools.pace.look()
        found, cpu = ask_by_loadgen(self.runner, self.requests, load, self.tools.cpu_ns)
        look = max(look, self.tools.pace.look())
        over = sum(took > self.bound_ms * 1e6 for took in found.latencies_ns)
        verdict = judge(over, queries)
        if rate is not None and found.span_ns > BEHIND * found.arrivals_ns[-1]:
            verdict = "missed"
        return Probe(rate, found, cpu, verdict, look)

    def _tokenizer_ms(self) -> float:
        """Median time that reading one request's text takes."""
        took = []
        for request in self.requests[:READ_ALONE]:
            start = time.perf_counter_ns()
            self.runner.encode([request])
            took.append(time.perf_counter_ns() - start)
        return float(np.median(took)) / 1e6

    def _status(self, held: bool) -> str:
        if held or self.stopped:
            return "ok"
        lowest = min(probe.p99_ms for probe in self.probes)
        return f"no rate: p99 is within {self.bound_ms:g} ms at none; the lowest p99 seen is {lowest:.3g} ms"

    def _row(self, taken: Memory | None) -> BenchResult:
        held = [probe for probe in self.probes if probe.rate is not None and probe.verdict == "held"]
        probe = max(held, key=lambda each: each.rate or 0.0) if held else min(self.probes, key=lambda each: each.p99_ms)
        queries, disturbed = len(probe.found.latencies_ns), int(self.tools.pace.slow(probe.look))
        for note in pace_notes(disturbed, 1):
            reporter.warn(note)
        return BenchResult(
            artifact=self.lane.name,
            target=self.lane.target,
            scenario="server",
            threads=self.threads,
            load=loadgen.load_name(),
            offered_qps=probe.rate if held else None,
            p99_bound_ms=self.bound_ms,
            requests=queries,
            rounds=1,
            repeated_rounds=self.repeated,
            disturbed_rounds=disturbed,
            **figures(probe.found.latencies_ns),
            tried_rates=tuple(self._tried(rate, each) for each in self.probes if (rate := each.rate) is not None),
            qps=probe.qps,
            cpu_ms=probe.cpu_ns / queries / 1e6,
            tokenizer_ms=self._tokenizer_ms(),
            **footprint(self.lane, taken),
            partial=True if self.stopped else None,
            status=self._status(bool(held)),
        )

    def _tried(self, rate: float, probe: Probe) -> TriedRate:
        return TriedRate(
            offered_qps=rate,
            qps=probe.qps,
            requests=len(probe.found.latencies_ns),
            p50_ms=float(np.percentile(probe.found.latencies_ns, 50)) / 1e6,
            p99_ms=probe.p99_ms,
            verdict=probe.verdict,
            disturbed=self.tools.pace.slow(probe.look),
        )
