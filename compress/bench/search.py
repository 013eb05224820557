"""The highest rate of requests at which p99 stays within a bound.

Rates are halved until one holds the bound, raised until one does not, and the bracket is bisected. Each rate is a
LoadGen server run that stops early: after as few queries as show, at 99% confidence, on which side of the bound p99 is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from compress.bench import loadgen
from compress.bench.measure import Answering, Contender, Instruments, deployed_bytes, no_garbage_collection
from compress.bench.results import BenchResult
from compress.bench.statistics import Verdict, figures, judge
from compress.progress import reporter
from compress.runtime.predictor import Request

QUERIES = (500, 1000, 2000, 4000)
"""Queries of a run; the next is begun where the one before showed nothing. 459 are the fewest that can hold a bound."""
WARM_QUERIES = 20
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
    """One rate (requests a second; None: one after the other), and what LoadGen found. cpu_ns: of all queries."""

    rate: float | None
    found: loadgen.Driven
    cpu_ns: int
    verdict: Verdict

    @property
    def p99_ms(self) -> float:
        """Observed p99 in milliseconds."""
        return float(np.percentile(self.found.latencies_ns, 99, method="higher")) / 1e6


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


@dataclass
class RateSearch:
    """The search for one contender with one number of threads."""

    contender: Contender
    requests: Sequence[Request]
    bound_ms: float
    threads: int = 1
    tools: Instruments = field(default_factory=Instruments)
    fastest: Probe | None = None

    def find(self) -> BenchResult:
        """The row of the highest rate that holds the bound.

        Where none does, `offered_qps` is None, `status` says so, and the figures are those of the lowest p99 that
        was seen.

        Raises:
            EnvironmentProblem: LoadGen is not installed.
        """
        runner = self.tools.open(self.contender.folder, self.threads)
        with no_garbage_collection():
            runner.answer([self.requests[0]] * WARM_QUERIES, batch_size=1)
            alone = self._probe(runner, None)
            if alone.verdict != "missed":  # else no rate can hold what one request after the other does not
                capacity = len(alone.found.latencies_ns) / alone.found.span_ns * 1e9
                best = highest(lambda rate: self._probe(runner, rate), capacity)
                if best is not None:
                    return self._row(best, "ok")
        lowest = self.fastest or alone
        return self._row(
            lowest,
            f"no rate: p99 is within {self.bound_ms:g} ms at none; the lowest p99 seen is {lowest.p99_ms:.3g} ms",
        )

    def _probe(self, runner: Answering, rate: float | None) -> Probe:
        for queries in QUERIES:
            probe = self._run(runner, rate, queries)
            if probe.verdict != "open":
                break
        if self.fastest is None or probe.p99_ms < self.fastest.p99_ms:
            self.fastest = probe
        at = "one after the other" if rate is None else f"{rate:,.1f} requests/s"
        said = {"held": "within", "missed": "not within", "open": "not shown to be within"}[probe.verdict]
        reporter.say(
            f"  {self.contender.name}, {at}: p99 {probe.p99_ms:.3g} ms over {queries:,} queries, {said} "
            f"{self.bound_ms:g} ms"
        )
        return probe

    def _run(self, runner: Answering, rate: float | None, queries: int) -> Probe:
        cpu = 0

        def answer(numbers: Sequence[int]) -> None:
            nonlocal cpu
            before = self.tools.cpu_ns()
            runner.answer([self.requests[number] for number in numbers], batch_size=1)
            cpu += self.tools.cpu_ns() - before

        scenario = loadgen.Load("single-stream" if rate is None else "server", queries, len(self.requests), qps=rate)
        found = loadgen.drive(scenario, answer)
        over = sum(took > self.bound_ms * 1e6 for took in found.latencies_ns)
        verdict = judge(over, queries)
        if rate is not None and found.span_ns > BEHIND * found.arrivals_ns[-1]:
            verdict = "missed"
        return Probe(rate, found, cpu, verdict)

    def _row(self, probe: Probe, status: str) -> BenchResult:
        queries = len(probe.found.latencies_ns)
        return BenchResult(
            artifact=self.contender.name,
            scenario="server",
            threads=self.threads,
            load=loadgen.load_name(),
            offered_qps=probe.rate if status == "ok" else None,
            p99_bound_ms=self.bound_ms,
            requests=queries,
            rounds=1,
            **figures(probe.found.latencies_ns),
            qps=queries / probe.found.span_ns * 1e9,
            cpu_ms=probe.cpu_ns / queries / 1e6,
            size_bytes=deployed_bytes(self.contender.folder),
            status=status,
        )
